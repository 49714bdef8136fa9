"""What Prometheus reads."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from prometheus_client.parser import text_string_to_metric_families

from portal.audit import SYSTEM
from portal.models import AuditEvent, AuditSeal, Event
from providers.configure import disable
from tests.factories import CANARY, GrantFactory, ProviderConfigFactory, database_now
from tokens import latency
from tokens.counts import fold
from tokens.models import RefreshMinute, UpstreamRevocation

if TYPE_CHECKING:
    from django.test import Client
    from pytest_django.fixtures import DjangoAssertNumQueries, SettingsWrapper

    from providers.models import ProviderConfig

pytestmark = pytest.mark.django_db

TOKEN = "metrics-token-of-the-tests"


def read(client: Client) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return the samples as Prometheus itself parses them, by name and labels."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain")
    found: dict[str, Any] = {}
    for family in text_string_to_metric_families(response.content.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def labels(**values: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(values.items()))


def minute(config: ProviderConfig, count: int, *, ago: dt.timedelta, place: int = 4) -> None:
    latencies = [0] * latency.SIZE
    latencies[place] = count
    RefreshMinute.objects.create(
        provider_config=config,
        application=config.application,
        starts_at=database_now() - ago,
        outcome="ok",
        count=count,
        latencies=latencies,
        waited_ms=90 * count,
    )


@pytest.fixture
def config() -> ProviderConfig:
    return ProviderConfigFactory.create(application__slug="acme-tasks")


OURS = {"application": "acme-tasks", "provider": "atlassian"}


def test_counters_add_up_and_do_not_fall_when_minutes_are_moved_away(client, config):
    minute(config, 5, ago=dt.timedelta(minutes=1))
    minute(config, 7, ago=dt.timedelta(days=3), place=latency.SIZE - 1)
    before = read(client)

    fold()
    after = read(client)

    assert before["portal_refresh_attempts_total"] == {labels(**OURS, outcome="ok"): 12}
    for name in (
        "portal_refresh_attempts_total",
        "portal_refresh_seconds_bucket",
        "portal_refresh_seconds_sum",
    ):
        assert after[name] == before[name]
    buckets = after["portal_refresh_seconds_bucket"]
    assert buckets[labels(provider="atlassian", le="0.1")] == 5
    assert buckets[labels(provider="atlassian", le="20.0")] == 5
    assert buckets[labels(provider="atlassian", le="+Inf")] == 12
    assert after["portal_refresh_seconds_sum"] == {labels(provider="atlassian"): pytest.approx(1.08)}


def test_what_is_due_what_wants_somebody_and_what_does_not_work(client, config):
    GrantFactory.create(provider_config=config, refresh_due_at=database_now() - dt.timedelta(minutes=2))
    GrantFactory.create(provider_config=config, needs_reconnect=True)
    GrantFactory.create(provider_config=config, fail_outcome="ambiguous")
    config.note_problem("unreachable")
    UpstreamRevocation.objects.create()

    found = read(client)

    ours = labels(**OURS)
    assert found["portal_provider_works"] == {ours: 0}
    assert found["portal_provider_problem"] == {labels(**OURS, problem="unreachable"): 1}
    assert found["portal_connections_due"] == {ours: 1}
    assert found["portal_connections_due_oldest_seconds"][ours] == pytest.approx(120, abs=10)
    assert found["portal_connections_attention"] == {
        labels(**OURS, why="failing"): 1,
        labels(**OURS, why="needs_reconnect"): 1,
        labels(**OURS, why="pending"): 0,
    }
    assert found["portal_upstream_revocations"] == {(): 1}
    assert found["portal_database_up"] == {(): 1}
    assert abs(found["portal_clock_skew_seconds"][()]) < 10


def test_how_many_seals_the_audit_log_has_and_how_old_the_newest_is_g3(client, db):
    assert read(client)["portal_audit_seal_age_seconds"] == {(): 0}
    now = database_now()
    AuditEvent.objects.create(at=now - dt.timedelta(hours=3), event=Event.EXPORTED, actor_kind="system")
    without = read(client)
    for hours in (2, 1):
        AuditSeal.objects.create(until=now - dt.timedelta(hours=hours), events=1, digest=b"x")

    found = read(client)

    assert without["portal_audit_seal_age_seconds"] == {(): pytest.approx(3 * 3600, abs=10)}
    assert found["portal_audit_seal_age_seconds"] == {(): pytest.approx(3600, abs=10)}
    assert [one["portal_audit_seals"][()] for one in (without, found)] == [0, 2]


def test_a_provider_that_is_switched_off_waits_for_nothing(client, config):
    GrantFactory.create(provider_config=config, expired=True)
    disable(config, actor=SYSTEM)

    assert "portal_connections_due" not in read(client)


def test_this_process_counts_its_requests_by_page_and_never_by_address(client, db):
    client.get(f"/nothing-here/{CANARY}/")
    client.generic("MADEUP", "/healthz")

    response = client.get("/metrics").content.decode()
    requests = read(client)["portal_http_requests_total"]

    assert requests[labels(view="none", method="GET", status="404")] >= 1
    assert requests[labels(view="healthz", method="other", status="405")] >= 1
    assert CANARY not in response


def test_with_a_token_only_who_shows_it_may_read(client: Client, settings: SettingsWrapper) -> None:
    settings.METRICS_TOKEN = TOKEN

    answers = [
        client.get("/metrics", headers={"Authorization": authorization} if authorization else {}).status_code
        for authorization in (
            "",
            "Bearer wrong",
            f"Basic {TOKEN}",
            TOKEN,
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN}",
        )
    ]

    assert answers == [404, 404, 404, 404, 404, 200]


def test_without_a_token_it_is_there_for_this_machine_under_make_run_alone(
    client: Client, settings: SettingsWrapper
) -> None:
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", REMOTE_ADDR="192.0.2.7").status_code == 404
    assert client.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 404

    settings.INSECURE_HTTP = False
    assert client.get("/metrics").status_code == 404


def test_a_scrape_is_cheap(
    client: Client, config: ProviderConfig, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(5):
        other = ProviderConfigFactory.create()
        minute(other, number + 1, ago=dt.timedelta(minutes=1))
        GrantFactory.create(provider_config=other, due=True)

    with django_assert_max_num_queries(7):
        client.get("/metrics")


@pytest.mark.django_db(transaction=True)
def test_while_the_database_is_gone_it_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")

    found = read(client)

    assert found["portal_database_up"] == {(): 0}
    assert "portal_http_requests_total" in found
    connection.close()
