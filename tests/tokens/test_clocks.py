"""A provider's clock that differs from the database's is noted, and Health tells of it (clock row of the fault matrix)."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from providers.models import ProviderHealth
from tests.factories import ProviderConfigFactory, database_now
from tokens.clocks import note_clock
from tokens.engine import drain
from tokens.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread
    from tests.conftest import Cast
    from tokens.models import Grant


def answered(config: ProviderConfig, date: str) -> Result:
    now = time.monotonic()
    return Result(object(), config, "unreadable", now - 1, now, date)


def dated(ahead: timedelta) -> str:
    return format_datetime(datetime.now(UTC) + ahead, usegmt=True)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("ahead", "words"),
    [(timedelta(hours=1), "60 min ahead of"), (timedelta(minutes=-3), "3 min behind")],
)
def test_a_provider_whose_clock_is_off_is_told_on_health_for_an_hour(cast: Cast, ahead, words):
    config = ProviderConfigFactory(application=cast.application)

    note_clock([answered(config, ""), answered(config, dated(ahead))])

    url = "/applications/acme-tasks/health/"
    assert f"Atlassian&#x27;s clock is {words}" in cast.client("owner").get(url).content.decode()
    ProviderHealth.objects.update(clock_seen_at=database_now() - timedelta(minutes=61))
    assert "clock is" not in cast.client("owner").get(url).content.decode()


@pytest.mark.django_db
def test_no_date_a_broken_one_and_a_right_one_cost_no_statement(django_assert_num_queries):
    config = ProviderConfigFactory()
    dates = ["", "yesterday", "Mon, 99 Foo 2026", dated(timedelta(seconds=20))]

    with django_assert_num_queries(0):
        note_clock([answered(config, date) for date in dates])


@pytest.mark.django_db(transaction=True)
def test_the_engine_reads_the_clock_of_real_answers(
    connect: Callable[..., Grant], sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sandbox's clock is right, so that any difference is taken for one; what is noted is the database's own."""
    connect(due=True)
    monkeypatch.setattr("tokens.clocks.SKEW", timedelta(seconds=-1))

    drain()

    noted = ProviderHealth.objects.get().clock_ahead_s
    assert noted is not None
    assert abs(noted) < 30
