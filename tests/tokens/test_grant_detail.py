"""The page of one connection."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from portal.audit import SYSTEM, Actor, record
from portal.models import Event, Role
from portal.models.audit import ActorKind
from providers.configure import disable
from providers.spec import Outcome
from tests.factories import CANARY, GrantFactory, ProviderConfigFactory, database_now
from tokens.models import Grant, GrantTokens, RefreshAttempt, Trigger
from tokens.timeline import timeline_of

if TYPE_CHECKING:
    from pytest_django.fixtures import DjangoAssertNumQueries

    from providers.models import ProviderConfig
    from tests.conftest import Cast

pytestmark = pytest.mark.django_db

KEY = Actor(ActorKind.API_KEY, "k1", "production", "198.51.100.4")


@pytest.fixture
def config(cast: Cast) -> ProviderConfig:
    return ProviderConfigFactory.create(application=cast.application)


def text_of(cast: Cast, grant: Grant, who: str = "owner", query: str = "", **headers: str) -> str:
    response = cast.client(who).get(grant.get_absolute_url() + query, headers=headers)
    assert response.status_code == 200
    return response.content.decode()


def attempted(grant: Grant, epoch: int, outcome: str = Outcome.OK, **fields: Any) -> RefreshAttempt:
    return RefreshAttempt.objects.create(
        grant=grant,
        provider_config=grant.provider_config,
        gen=epoch,
        epoch=epoch,
        trigger=Trigger.BEAT,
        outcome=outcome,
        **fields,
    )


def titles(text: str) -> list[str]:
    timeline = text[text.index("What happened") : text.index("Scopes")]
    return re.findall(r"<strong>([^<]+)</strong>", timeline)


def test_it_tells_who_which_account_and_which_sites_were_chosen(cast, config):
    grant = GrantFactory.create(
        provider_config=config, end_user="user-4711", label="Jo in sales", site_names=["acme", "acme-labs"]
    )
    grant.sites.filter(name="acme-labs").update(is_chosen=False)

    text = text_of(cast, grant)

    for word in ("user-4711", "Jo in sales", grant.account_name, grant.account_email, grant.account_id):
        assert word in text
    assert "https://acme.atlassian.net" in text
    assert text.index("<strong>acme</strong>") < text.index("acme-labs") < text.index("not chosen")


def test_granted_scopes_stand_in_the_catalogs_words_and_missing_ones_are_marked(cast, config):
    grant = GrantFactory.create(
        provider_config=config,
        requested_scopes=["read:me", "read:jira-work", "made:up"],
        granted_scopes=["read:me", "extra:one"],
    )

    text = text_of(cast, grant)

    assert "Read projects and issues" in text
    assert text.count("not granted") >= 2
    assert "not asked for" in text
    assert "A reconnect asks again." in text


def test_the_clocks_are_said(cast, config):
    now = database_now()
    grant = GrantFactory.create(
        provider_config=config,
        gen=7,
        used_at=now - timedelta(hours=3),
        idle_deadline=now + timedelta(days=20),
    )

    text = text_of(cast, grant)

    for word in ("10 min ago", "in 50 min", "in 42 min", "<dd>7</dd>", "3 h ago", "in 20 days"):
        assert word in text


def test_a_dead_grant_tells_the_cause_and_what_to_do(cast, config):
    grant = GrantFactory.create(
        provider_config=config,
        needs_reconnect=True,
        fail_outcome=Outcome.GRANT_DEAD,
        idle_deadline=database_now() + timedelta(days=20),
    )

    text = text_of(cast, grant)

    assert "Access has ended." in text
    assert "Access was removed at Atlassian. Send the person a reconnect link" in text
    assert "Must be renewed by" not in text


def test_a_failing_grant_says_that_there_is_nothing_to_do(cast, config):
    grant = GrantFactory.create(
        provider_config=config, fail_outcome=Outcome.AMBIGUOUS, cause="Atlassian gave no usable answer"
    )

    text = text_of(cast, grant)

    assert "Retrying" in text
    assert "There is nothing to do: we keep trying" in text


def test_a_waiting_grant_asks_whose_account_it_is(cast, config):
    grant = GrantFactory.create(
        provider_config=config, pending=True, end_user="user-4711", account_email="kim@elsewhere.example"
    )

    owner, support = text_of(cast, grant, "owner"), text_of(cast, grant, "support")

    assert "Is this user-4711’s account?" in owner
    assert "kim@elsewhere.example" in owner
    assert f"{grant.get_absolute_url()}confirm/" in owner
    assert f"{grant.get_absolute_url()}confirm/" not in support


def test_the_same_account_elsewhere_in_the_application_is_warned_of(cast, config):
    grant = GrantFactory.create(provider_config=config)
    GrantFactory.create(provider_config=config, account_id=grant.account_id, end_user="user-4712")
    GrantFactory.create(provider_config=config, account_id=grant.account_id, end_user="gone", revoked=True)
    GrantFactory.create(
        provider_config__application=cast.strangers_application,
        account_id=grant.account_id,
        end_user="theirs",
    )

    text = text_of(cast, grant)

    assert "Shares its access with" in text
    assert "user-4712" in text
    assert "removing the app at Atlassian ends every one of them" in text
    assert "gone" not in titles(text)
    assert "theirs" not in text


def test_a_revoked_grant_tells_what_the_provider_answered_and_offers_nothing(cast, config):
    grant = GrantFactory.create(
        provider_config=config,
        revoked=True,
        upstream_revocation="Atlassian has no way for us to end it there",
    )

    text = text_of(cast, grant)

    assert "This connection is revoked." in text
    assert "Atlassian has no way for us to end it there" in text
    assert "Refresh now" not in text


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        (Role.OWNER, {"Refresh now", "Make a reconnect link", "Revoke…"}),
        (Role.ADMIN, {"Refresh now", "Make a reconnect link", "Revoke…"}),
        (Role.SUPPORT, {"Refresh now", "Make a reconnect link"}),
        (Role.AUDITOR, set()),
    ],
)
def test_actions_are_offered_by_role(cast, config, role, expected):
    text = text_of(cast, GrantFactory.create(provider_config=config), role.value)

    assert {word for word in ("Refresh now", "Make a reconnect link", "Revoke…") if word in text} == expected


def test_the_timeline_merges_events_and_attempts_newest_first(cast, config):
    grant = GrantFactory.create(provider_config=config)
    at = database_now() - timedelta(hours=1)
    record(Event.GRANT_CONNECTED, actor=SYSTEM, application=cast.application, subject=grant)
    attempted(grant, 1)
    RefreshAttempt.objects.update(claimed_at=at)

    assert titles(text_of(cast, grant)) == ["Connected", "Refreshed"]


def test_an_attempt_tells_its_cause_status_and_trigger(cast, config):
    grant = GrantFactory.create(provider_config=config)
    attempted(grant, 1, Outcome.AMBIGUOUS, http_status=503, error_code="busy", cause="the answer was cut off")

    text = text_of(cast, grant)

    assert "Refresh without a usable answer" in text
    assert "the answer was cut off, HTTP 503, busy, on schedule" in text


def test_an_attempt_whose_worker_died_is_told_from_one_under_way(cast, config):
    now = database_now()
    grant = GrantFactory.create(
        provider_config=config,
        claim_owner=uuid.uuid4(),
        claim_until=now + timedelta(seconds=60),
        claim_epoch=2,
    )
    attempted(grant, 1, "")
    attempted(grant, 2, "")

    assert titles(text_of(cast, grant)) == ["Refresh under way", "Refresh without a known end"]


def test_hand_outs_in_a_row_are_one_line(cast, config):
    grant = GrantFactory.create(provider_config=config)
    record(Event.GRANT_CONNECTED, actor=SYSTEM, application=cast.application, subject=grant)
    for _ in range(3):
        record(Event.TOKEN_HANDED_OUT, actor=KEY, application=cast.application, subject=grant)

    text = text_of(cast, grant)

    assert titles(text) == ["Token handed out 3 times", "Connected"]
    assert "by API key production" in text


def test_scheduled_refreshes_in_a_row_that_went_well_are_one_line(cast, config):
    grant = GrantFactory.create(provider_config=config)
    for epoch, outcome in enumerate([Outcome.OK] * 3 + [Outcome.AMBIGUOUS] + [Outcome.OK] * 2, start=1):
        attempted(grant, epoch, outcome)

    assert titles(text_of(cast, grant)) == [
        "Refreshed 2 times",
        "Refresh without a usable answer",
        "Refreshed 3 times",
    ]


def test_addresses_are_for_those_who_may_read_the_audit_log(cast, config):
    grant = GrantFactory.create(provider_config=config)
    record(Event.TOKEN_HANDED_OUT, actor=KEY, application=cast.application, subject=grant)

    assert "198.51.100.4" in text_of(cast, grant, "auditor")
    assert "198.51.100.4" not in text_of(cast, grant, "support")


def test_the_timelines_pages_hold_everything_once_also_at_the_same_instant(cast, config):
    grant = GrantFactory.create(provider_config=config)
    at = database_now()
    for number in range(1, 30):
        attempted(grant, number, cause=f"attempt {number:02d}")
        record(
            Event.GRANT_SITES_CHANGED,
            actor=SYSTEM,
            application=cast.application,
            subject=grant,
            number=f"{number:02d}",
        )
    RefreshAttempt.objects.update(claimed_at=at)

    pages, before = [], ""
    while True:
        page = timeline_of(grant, before=before, now=at, size=7)
        pages.append(page)
        if not (before := page.older):
            break

    told = [entry.text for page in pages for entry in page.entries]
    assert len(told) == len(set(told)) == 58
    assert all(len(page.entries) == 7 for page in pages[:-1])


@pytest.mark.parametrize("before", ["x", "1", "-", "9" * 30 + "-1", "1-" + "9" * 30, "%00-1"])
def test_a_cursor_that_cannot_be_read_counts_as_none(cast, config, before):
    grant = GrantFactory.create(provider_config=config)

    assert "Nothing" in text_of(cast, grant, query=f"?before={before}")


def test_htmx_gets_the_changing_part_alone(cast, config):
    grant = GrantFactory.create(provider_config=config)

    text = text_of(cast, grant, **{"HX-Request": "true"})

    assert "<html" not in text
    assert "What happened" in text


def test_c8_a_grant_that_cannot_be_decrypted_has_a_page(cast, config):
    grant = GrantFactory.create(
        provider_config=config, fail_outcome="unreadable", cause="its tokens cannot be decrypted"
    )
    GrantTokens.objects.filter(grant=grant).update(access_token=b"\x01\x02k1garbage", refresh_token=b"")

    text = text_of(cast, grant)

    assert "Unreadable" in text
    assert "connecting again replaces what cannot be read" in text


def test_a_grant_whose_catalog_file_is_gone_has_a_page(cast):
    config = ProviderConfigFactory.create(application=cast.application, provider_id="gone-provider")
    grant = GrantFactory.create(provider_config=config)

    text = text_of(cast, grant)

    assert "This provider is no longer in the catalog." in text
    assert "read:jira-work" in text


def test_what_cannot_be_done_while_the_provider_is_disabled_is_not_offered(cast, config):
    grant = GrantFactory.create(provider_config=config)
    disable(config, actor=SYSTEM)

    text = text_of(cast, grant)

    assert "Refresh now" not in text
    assert "Make a reconnect link" not in text
    assert "Revoke…" in text


def test_no_secret_is_on_the_page(cast, config):
    grant = GrantFactory.create(provider_config=config)

    assert CANARY not in text_of(cast, grant)


def test_a_grant_of_another_application_is_not_there(cast, config):
    theirs = GrantFactory.create(provider_config__application=cast.strangers_application)
    own = GrantFactory.create(provider_config=config)
    client = cast.client("owner")

    assert client.get(theirs.get_absolute_url()).status_code == 404
    assert client.get(own.get_absolute_url().replace(str(own.pk), str(theirs.pk))).status_code == 404
    assert client.get(own.get_absolute_url().replace(str(own.pk), str(uuid.uuid4()))).status_code == 404


def test_the_page_is_light(
    cast: Cast, config: ProviderConfig, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    grant = GrantFactory.create(provider_config=config, site_names=[f"site-{n}" for n in range(50)])
    for number in range(1, 60):
        attempted(grant, number)
        record(Event.TOKEN_HANDED_OUT, actor=KEY, application=cast.application, subject=grant)
    GrantFactory.create_batch(10, provider_config=config, account_id=grant.account_id)
    client = cast.client("owner")

    with django_assert_max_num_queries(10):
        response = client.get(grant.get_absolute_url())

    assert len(response.content) < 100_000
