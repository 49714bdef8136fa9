"""Overview: is it well?"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from portal.audit import SYSTEM
from portal.instance import note_first_start
from portal.models import Role, WebhookEndpoint, WebhookType
from providers.configure import disable
from providers.spec import Outcome
from tests.factories import GrantFactory, MembershipFactory, ProviderConfigFactory, database_now
from tokens import spans
from tokens.models import AuthorizationRequest, Confirmation, ConnectSession, RefreshCount
from tokens.models.connect import SessionStatus
from tokens.webhooks import endpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django.fixtures import DjangoAssertNumQueries

    from providers.models import ProviderConfig
    from tests.conftest import Cast

pytestmark = pytest.mark.django_db

URL = "/applications/acme-tasks/"


def text_of(cast: Cast, who: str = "owner", **headers: str) -> str:
    response = cast.client(who).get(URL, headers=headers)
    assert response.status_code == 200
    return response.content.decode()


def configured(cast: Cast, **fields: Any) -> ProviderConfig:
    return ProviderConfigFactory.create(application=cast.application, **fields)


def session_of(config: ProviderConfig, number: int = 1, **fields: Any) -> ConnectSession:
    return ConnectSession.objects.create(
        application=config.application,
        provider_config=config,
        confirmation=Confirmation.MEMBER,
        end_user=f"user-{number}",
        link_digest=f"{config.pk.hex}{number}",
        expires_at=database_now() + timedelta(hours=24),
        **fields,
    )


def went_to_the_provider(session: ConnectSession) -> None:
    AuthorizationRequest.objects.create(
        session=session,
        state_digest=session.link_digest,
        browser_digest="",
        client_id="",
        redirect_uri="",
        token_url="",
        expires_at=database_now() - timedelta(minutes=1),
    )


def test_a_new_application_shows_three_steps(cast):
    text = text_of(cast)

    assert "Three steps to the first connection" in text
    assert "Add a provider" in text
    assert "Nothing connected yet" in text


def test_the_steps_tell_what_is_done_and_offer_the_next(cast):
    configured(cast)

    text = text_of(cast)

    assert "Done" in text
    assert "/applications/acme-tasks/providers/atlassian/connect/" in text


def test_an_application_that_is_well_says_so(cast):
    GrantFactory.create(provider_config=configured(cast))

    text = text_of(cast)

    assert "All well" in text
    assert "1 connection, 1 new this week" in text


def test_an_application_whose_only_provider_is_disabled_is_not_well_but_paused(cast):
    config = configured(cast)
    GrantFactory.create(provider_config=config)
    disable(config, actor=SYSTEM)

    text = text_of(cast)

    assert "Paused" in text
    assert "All well" not in text


def test_connections_are_counted_by_what_they_are(cast, client_of_counts):
    config = configured(cast)
    GrantFactory.create_batch(3, provider_config=config)
    GrantFactory.create_batch(2, provider_config=config, fail_outcome=Outcome.AMBIGUOUS)
    GrantFactory.create(provider_config=config, fail_outcome="unreadable")
    GrantFactory.create(provider_config=config, pending=True)
    GrantFactory.create(provider_config=config, needs_reconnect=True)
    GrantFactory.create(provider_config=config, revoked=True)

    counts = client_of_counts()

    assert (counts.working, counts.failing, counts.unreadable) == (3, 2, 1)
    assert (counts.pending, counts.needs_reconnect) == (1, 1)
    assert (counts.alive, counts.ever) == (8, 9)


@pytest.fixture
def client_of_counts(cast: Cast) -> Callable[[], Any]:
    return lambda: cast.client("owner").get(URL).context["counts"]


def test_a_large_application_is_counted_whole_once_a_minute_but_what_needs_a_person_always(
    cast, client_of_counts, monkeypatch
):
    monkeypatch.setattr("tokens.connection_counts.LARGE", 2)
    config = configured(cast)
    GrantFactory.create_batch(3, provider_config=config)
    before = client_of_counts()
    GrantFactory.create(provider_config=config)
    GrantFactory.create(provider_config=config, fail_outcome=Outcome.AMBIGUOUS)
    GrantFactory.create(provider_config=config, pending=True)
    GrantFactory.create(provider_config=config, needs_reconnect=True)

    after = client_of_counts()

    assert (before.alive, before.failing, before.pending, before.needs_reconnect) == (3, 0, 0, 0)
    assert (after.alive, after.failing, after.pending, after.needs_reconnect) == (3, 1, 1, 1)


def test_what_was_counted_is_forgotten_when_a_provider_is_disabled(cast, client_of_counts, monkeypatch):
    monkeypatch.setattr("tokens.connection_counts.LARGE", 2)
    config = configured(cast)
    GrantFactory.create_batch(3, provider_config=config)
    before = client_of_counts()

    disable(config, actor=SYSTEM)

    assert (before.working, client_of_counts().working) == (3, 0)


def test_without_a_cache_a_large_application_is_counted_whole_each_time(cast, monkeypatch, settings):
    monkeypatch.setattr("tokens.connection_counts.LARGE", 2)
    config = configured(cast)
    client = cast.client("owner")
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "unix:///nowhere"}}
    GrantFactory.create_batch(3, provider_config=config)
    client.get(URL)
    GrantFactory.create(provider_config=config)

    assert client.get(URL).context["counts"].alive == 4


def test_connections_of_a_disabled_provider_are_neither_working_nor_failing(cast, client_of_counts):
    config = configured(cast, is_enabled=False)
    GrantFactory.create(provider_config=config)
    GrantFactory.create(provider_config=config, fail_outcome=Outcome.AMBIGUOUS)

    counts = client_of_counts()

    assert (counts.working, counts.failing, counts.alive) == (0, 0, 2)
    assert "Atlassian is disabled." in text_of(cast)


def test_what_needs_a_person_is_said_with_a_link(cast):
    config = configured(cast)
    GrantFactory.create_batch(2, provider_config=config, needs_reconnect=True)
    GrantFactory.create(provider_config=config, pending=True)

    text = text_of(cast)

    assert "2 connections must be reconnected." in text
    assert "/applications/acme-tasks/connections/?status=needs_reconnect" in text
    assert "1 connection waits for confirmation." in text
    assert "Needs attention" in text


def test_a_problem_of_the_provider_is_said_to_those_who_can_mend_it_with_a_link(cast):
    configured(
        cast,
        problem_code="client_refused",
        problem_message="Atlassian refuses the client ID or secret.",
        problem_since=database_now(),
    )

    link = "/applications/acme-tasks/providers/atlassian/"
    assert "Atlassian refuses the client ID or secret." in text_of(cast, "owner")
    assert f'href="{link}"' in text_of(cast, "owner")
    assert "Atlassian refuses the client ID or secret." in text_of(cast, "support")
    assert f'href="{link}"' not in text_of(cast, "support")


def test_what_an_admin_must_set_up_is_named_as_the_reason_why_nobody_can_connect(cast):
    config = configured(cast)
    session_of(config, 1, failure="redirect_uri_not_registered")
    session_of(config, 2, failure="cancelled")

    text = text_of(cast)

    assert "Nobody can connect Atlassian." in text
    assert "The redirect URI is not registered" in text
    assert "The person cancelled" in text


@pytest.mark.parametrize("failure", ["wrong_client_secret", "profile_refused", "unreadable_secret"])
def test_a_failure_that_new_credentials_have_mended_is_no_longer_a_reason(cast, failure):
    config = configured(cast)
    session_of(config, 1, failure=failure)
    config.secret_set_at = database_now() + timedelta(seconds=1)
    config.save()

    text = text_of(cast)

    assert "Nobody can connect" not in text
    assert "Something is broken" not in text
    assert "Connecting that failed" in text


def test_a_secret_that_cannot_be_read_is_said_until_it_is_replaced(cast):
    config = configured(cast)
    session_of(config, 1, failure="unreadable_secret")

    text = text_of(cast)

    assert "Nobody can connect Atlassian." in text
    assert "The stored client secret cannot be decrypted" in text


def test_a_set_up_failure_is_forgotten_when_somebody_has_connected_since(cast):
    config = configured(cast)
    session_of(config, 1, failure="scope_not_enabled")
    ConnectSession.objects.update(created_at=database_now() - timedelta(hours=1))
    session_of(config, 2, status=SessionStatus.DONE)

    text = text_of(cast)

    assert "Nobody can connect Atlassian." not in text
    assert "Connecting that failed" in text


def test_people_who_never_came_back_point_at_the_redirect_uri(cast):
    config = configured(cast)
    went_to_the_provider(session_of(config, 1))

    text = text_of(cast)

    assert "One person went to Atlassian and did not come back." in text
    assert "redirect URI" in text


def test_people_who_never_came_back_mean_nothing_when_others_did(cast):
    config = configured(cast)
    went_to_the_provider(session_of(config, 1))
    ConnectSession.objects.update(created_at=database_now() - timedelta(hours=1))
    session_of(config, 2, status=SessionStatus.DONE)

    assert "did not come back" not in text_of(cast)


def test_the_chart_counts_half_hours_and_says_the_same_in_a_sentence_and_a_table(cast):
    config = configured(cast)
    GrantFactory.create(provider_config=config)
    start = spans.DAY.starts_of(database_now())[40]
    for minutes, outcome, count in ((0, "ok", 5), (5, "ok", 2), (5, "ambiguous", 3), (10, "fenced", 9)):
        RefreshCount.objects.create(
            provider_config=config,
            application=cast.application,
            starts_at=start + timedelta(minutes=minutes),
            outcome=outcome,
            count=count,
        )

    text = text_of(cast)

    assert "10 refreshes in the last 24 hours, by half hour; 3 failed, between" in text
    assert '<td class="number">7</td><td class="number">3</td>' in text
    assert 'role="img"' in text


def test_another_applications_refreshes_are_not_in_the_chart(cast):
    GrantFactory.create(provider_config=configured(cast))
    theirs = ProviderConfigFactory.create(application=cast.strangers_application)
    RefreshCount.objects.create(
        provider_config=theirs,
        application=cast.strangers_application,
        starts_at=database_now(),
        outcome="ok",
        count=5,
    )

    assert "None yet." in text_of(cast)


def test_a_provider_that_works_again_is_told_with_when_and_why(cast):
    config = configured(cast)
    config.note_problem("unreachable")
    assert "works again" not in text_of(cast)
    config.note_recovery()

    text = text_of(cast)

    assert text.count("Atlassian works again.") == 1
    assert "It did not work from" in text
    assert "It gave no usable answer several times in a row." in text
    assert "health/?span=day&amp;provider=atlassian" in text


def test_htmx_gets_the_changing_part_alone(cast):
    GrantFactory.create(provider_config=configured(cast))

    text = text_of(cast, **{"HX-Request": "true"})

    assert "<html" not in text
    assert "Latest connections" in text
    assert 'hx-swap-oob="true"' in text


@pytest.mark.parametrize("role", list(Role))
def test_every_member_may_look(cast, role):
    assert cast.client(role.value).get(URL).status_code == 200


def test_a_provider_whose_catalog_file_is_gone_breaks_nothing(cast):
    GrantFactory.create(provider_config=configured(cast, provider_id="gone-provider"))

    assert "Latest connections" in text_of(cast)


def test_the_page_is_light_even_when_everything_needs_attention(
    cast: Cast, settings: Any, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    settings.INSTANCE_ID = "this one"
    note_first_start()
    for provider in ("atlassian", "github", "gone-provider"):
        config = configured(cast, provider_id=provider)
        for kind in ({}, {"pending": True}, {"needs_reconnect": True}, {"fail_outcome": "ambiguous"}):
            GrantFactory.create_batch(3, provider_config=config, site_names=["acme"], **kind)
        config.note_problem("unreachable")
        if provider == "atlassian":
            config.note_recovery()
        for number in range(9):
            failure = ("cancelled", "redirect_uri_not_registered", "")[number % 3]
            went_to_the_provider(session_of(config, number, failure=failure))
    for number in range(3):
        endpoints.create(
            cast.application,
            name=f"back end {number}",
            url=f"https://{number}.example",
            types=[WebhookType.GRANT_REVOKED],
            actor=SYSTEM,
        )
    WebhookEndpoint.objects.update(disabled_at=database_now(), disabled_reason="gone")
    client = cast.client("owner")
    for other in ("A", "Z"):
        MembershipFactory.create(user=cast.owner, application__name=other)

    with django_assert_max_num_queries(10):
        response = client.get(URL)

    text = response.content.decode()
    assert len(text) < 100_000
    assert "Atlassian works again." in text
    assert text.count("were stopped.") == 3
    assert text.index("<span>A</span>") < text.index("<span>Z</span>")
