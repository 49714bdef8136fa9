"""Health: how well refreshing goes."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from portal.audit import SYSTEM
from portal.models import Role
from providers.configure import disable
from providers.models import ProviderConfig
from providers.spec import Outcome
from tests.factories import GrantFactory, ProviderConfigFactory, database_now
from tokens import latency, spans
from tokens.models import Grant, RefreshAttempt, RefreshMinute, Trigger

if TYPE_CHECKING:
    from pytest_django.fixtures import DjangoAssertNumQueries

    from tests.conftest import Cast

pytestmark = pytest.mark.django_db

URL = "/applications/acme-tasks/health/"


def text_of(cast: Cast, query: str = "", who: str = "owner", **headers: str) -> str:
    response = cast.client(who).get(URL + query, headers=headers)
    assert response.status_code == 200
    return response.content.decode()


def configured(cast: Cast, **fields: Any) -> ProviderConfig:
    return ProviderConfigFactory.create(application=cast.application, **fields)


def counted(
    config: ProviderConfig, outcome: str, number: int, *, ago: int = 1, seconds: float = 0.06
) -> None:
    """Count attempts `ago` minutes ago that were answered after so many seconds."""
    latencies = [0] * latency.SIZE
    latencies[latency.place_of(seconds)] = number
    RefreshMinute.objects.create(
        provider_config=config,
        application=config.application,
        starts_at=spans.HOUR.starts_of(database_now())[-1 - ago],
        outcome=outcome,
        count=number,
        latencies=latencies,
    )


def test_without_a_provider_the_page_says_what_will_be_here(cast):
    text = text_of(cast)

    assert "Nothing to keep fresh yet" in text
    assert '<svg class="chart"' not in text


def test_it_shows_rate_success_times_and_failures_by_class(cast):
    config = configured(cast)
    counted(config, "ok", 1190)
    counted(config, "ambiguous", 8, seconds=30)
    counted(config, "not_sent", 2, ago=3)
    counted(config, "fenced", 99)

    text = text_of(cast)

    assert "<b>20</b>" in text
    assert "99.17 %" in text
    assert "of 1,200 refreshes" in text
    assert "No usable answer" in text
    assert "Not reached" in text
    assert "1,200 refreshes in the last hour, by minute; 10 failed, between" in text
    assert "95 % within 7" in text
    assert text.count('role="img"') == 2
    # The table says the same.
    assert '<td class="number">1190</td><td class="number">8</td>' in text


def test_one_failure_among_many_is_never_a_hundred_percent(cast):
    config = configured(cast)
    counted(config, "ok", 99_999)
    counted(config, "ambiguous", 1)

    assert "99.99 %" in text_of(cast)


def test_a_rate_that_is_hardly_any_is_not_said_to_be_none(cast):
    config = configured(cast)
    before = text_of(cast, "?span=week")
    counted(config, "ok", 3)

    after = text_of(cast, "?span=week")

    assert "<b>0</b>" in before
    assert "<b>&lt; 0.01</b>" in after


@pytest.mark.parametrize(
    ("query", "step"),
    [
        ("", "by minute"),
        ("?span=day", "by half hour"),
        ("?span=week", "by four hours"),
        ("?span=x", "by minute"),
    ],
)
def test_the_last_hour_day_or_week_is_a_link_away(cast, query, step):
    counted(configured(cast), "ok", 3)

    text = text_of(cast, query)

    assert "3 refreshes in the last" in text
    assert step in text
    assert text.count('aria-current="page"') == 2


def test_one_provider_is_shown_alone(cast):
    atlassian, other = configured(cast), configured(cast, provider_id="gone-provider")
    counted(atlassian, "ok", 3)
    counted(other, "ok", 40)

    everything, alone = text_of(cast), text_of(cast, "?provider=atlassian")

    assert "of 43 refreshes" in everything
    assert "?span=hour&amp;provider=atlassian" in everything
    assert "of 3 refreshes" in alone
    assert "gone-provider" not in alone


def test_what_is_due_is_counted_and_the_oldest_is_named(cast):
    config = configured(cast)
    GrantFactory.create_batch(2, provider_config=config, due=True)
    GrantFactory.create(provider_config=config, refresh_due_at=database_now() - dt.timedelta(minutes=12))
    GrantFactory.create(provider_config=config)

    text = text_of(cast)

    assert "<b>3</b>" in text
    assert "the oldest for 12 min" in text
    assert "3 overdue, the oldest by 12 min." in text
    assert "Needs attention" in text


def test_where_calls_are_held_back_the_backlog_is_not_blamed_on_the_workers(cast):
    config = configured(cast)
    GrantFactory.create(provider_config=config, expired=True)
    config.note_problem("unreachable")

    text = text_of(cast)

    assert "The workers do not keep up" not in text
    assert "Breaker open" in text
    assert "does not answer" in text
    assert "Something is broken" in text


def test_the_breaker_is_said_in_words(cast):
    config = configured(cast)

    assert "Breaker closed" in text_of(cast)

    ProviderConfig.objects.update(misses_in_a_row=3)
    assert "The last got no usable answer, 3 times in a row." in text_of(cast)

    ProviderConfig.objects.update(paused_until=database_now() + dt.timedelta(minutes=2))
    assert "Asked to slow down: no calls until" in text_of(cast)

    ProviderConfig.objects.update(endings_held_since=database_now(), refused_in_a_row=5)
    assert "One call is tried every 10 seconds" in text_of(cast)

    disable(config, actor=SYSTEM)
    assert "Switched off" in text_of(cast)


def test_calls_under_way_are_counted_beside_their_limits(cast):
    config = configured(cast, max_parallel=40, max_per_second=7)
    grant = GrantFactory.create(provider_config=config)
    for epoch, outcome in ((1, ""), (2, "ok"), (3, "")):
        RefreshAttempt.objects.create(
            grant=grant, provider_config=config, gen=0, epoch=epoch, trigger=Trigger.BEAT, outcome=outcome
        )
    RefreshAttempt.objects.filter(epoch=3).update(claimed_at=database_now() - dt.timedelta(hours=1))

    assert "1 of 40 calls under way, 7 a second at most." in text_of(cast)


def test_connections_that_need_somebody_are_named_with_the_reason_and_a_link(cast):
    config = configured(cast)
    GrantFactory.create(provider_config=config, end_user="fine")
    failing = GrantFactory.create(
        provider_config=config, end_user="failing", fail_outcome=Outcome.AMBIGUOUS, cause="a time-out"
    )
    GrantFactory.create(provider_config=config, end_user="ended", needs_reconnect=True)
    GrantFactory.create(provider_config=config, end_user="waiting", pending=True)
    GrantFactory.create(provider_config=config, end_user="revoked", revoked=True)

    text = text_of(cast)

    assert f'href="{failing.get_absolute_url()}"' in text
    assert "A time-out" in text
    assert text.index("ended</a>") < text.index("failing</a>") < text.index("waiting</a>")
    assert "fine</a>" not in text
    assert "revoked</a>" not in text
    assert "?status=attention&amp;provider=atlassian" in text


def test_when_a_provider_stopped_and_worked_again_is_told_once_each(cast):
    config = configured(cast)
    for _ in range(2):
        config.note_problem("client_refused")
    for _ in range(2):
        config.note_recovery()

    text = text_of(cast)

    assert text.count("Atlassian stopped working") == 1
    assert text.count("Atlassian works again") == 1
    assert "It refused the client ID or secret." in text


def test_a_provider_whose_catalog_file_is_gone_says_so(cast):
    configured(cast, provider_id="gone-provider")

    assert "Not in the catalog" in text_of(cast)


def test_another_applications_numbers_are_not_in_it(cast):
    configured(cast)
    theirs = ProviderConfigFactory.create(application=cast.strangers_application)
    counted(theirs, "ok", 5)
    GrantFactory.create(provider_config=theirs, expired=True, end_user="theirs", fail_outcome="ambiguous")
    theirs.note_problem("unreachable")

    text = text_of(cast)

    assert "None yet." in text
    assert "All well" in text
    assert "theirs" not in text
    assert "stopped working" not in text


def test_a_clock_that_is_wrong_is_said(cast, monkeypatch):
    configured(cast)
    now = database_now() + dt.timedelta(minutes=4)
    monkeypatch.setattr("tokens.health.timezone.now", lambda: now)

    assert "clock and the database&#x27;s differ by 4 min." in text_of(cast)


def test_htmx_gets_the_changing_part_alone_and_asks_for_the_same_span(cast):
    counted(configured(cast), "ok", 3)

    assert 'hx-get="/applications/acme-tasks/health/?span=day"' in text_of(cast, "?span=day")
    part = text_of(cast, "?span=day", **{"HX-Request": "true"})
    assert "<html" not in part
    assert 'hx-swap-oob="true"' in part
    assert "by half hour" in part


@pytest.mark.parametrize("role", list(Role))
def test_every_member_may_look(cast, role):
    assert cast.client(role.value).get(URL).status_code == 200


def test_the_page_is_light(cast: Cast, django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    for number, provider in enumerate(["atlassian", "gone-provider"]):
        config = configured(cast, provider_id=provider)
        for kind in (
            {"due": True},
            {"pending": True},
            {"needs_reconnect": True},
            {"fail_outcome": "ambiguous"},
        ):
            GrantFactory.create_batch(12, provider_config=config, **kind)
        for ago in range(50):
            counted(config, "ok", 100 + number, ago=ago)
        config.note_problem("unreachable")
    client = cast.client("owner")

    with django_assert_max_num_queries(10):
        response = client.get(URL)

    assert len(response.content) < 100_000


def test_what_is_due_or_wants_somebody_is_counted_only_so_far(cast, monkeypatch):
    monkeypatch.setattr("tokens.backlog.MOST", 3)
    config = configured(cast)
    GrantFactory.create_batch(5, provider_config=config, due=True)
    GrantFactory.create_batch(5, provider_config=config, needs_reconnect=True)

    text = text_of(cast)

    assert text.count("3+") >= 3
    assert Grant.objects.count() == 10
