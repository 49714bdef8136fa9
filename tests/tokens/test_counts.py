"""Counting attempts by minute, and moving old minutes into half hours and totals."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from tests.factories import ProviderConfigFactory, database_now
from tokens import latency, spans
from tokens.counts import KEEP_MINUTES, count, fold
from tokens.models import RefreshCount, RefreshMinute, RefreshTotal
from tokens.results import Committed, Result

if TYPE_CHECKING:
    from providers.models import ProviderConfig

pytestmark = pytest.mark.django_db


class MadeUpClaim:
    """As much of a claim as counting reads."""

    def __init__(self, grant_id: str) -> None:
        self.grant_id = grant_id


def counted(config: ProviderConfig, *outcomes: tuple[str, float | None]) -> None:
    """Count attempts with their outcomes and the seconds that the answer took."""
    results, done = [], {}
    for number, (outcome, took) in enumerate(outcomes):
        claim = MadeUpClaim(str(number))
        times = (None, None) if took is None else (100.0, 100.0 + took)
        results.append(Result(claim, config, "unreadable", *times))
        done[claim.grant_id] = Committed(outcome)
    count(results, done)


def minute(config: ProviderConfig, starts_at: dt.datetime, number: int, place: int = 0) -> None:
    latencies = [0] * latency.SIZE
    latencies[place] = number
    RefreshMinute.objects.create(
        provider_config=config,
        application=config.application,
        starts_at=starts_at,
        outcome="ok",
        count=number,
        latencies=latencies,
        waited_ms=10 * number,
    )


def refreshed(span: spans.Span, *configs: ProviderConfig) -> int:
    counts = spans.read(span, database_now(), [config.pk for config in configs])
    return sum(one.count for slices in counts.by_config.values() for one in slices)


def test_groups_add_up_in_their_minute_with_the_times_of_their_answers():
    config = ProviderConfigFactory()

    counted(config, ("ok", 0.052), ("ok", 0.051), ("not_sent", None))
    counted(config, ("ok", 31.0))

    ok = RefreshMinute.objects.get(outcome="ok")
    assert (ok.count, ok.waited_ms, ok.application_id) == (3, 31_103, config.application_id)
    assert {place: number for place, number in enumerate(ok.latencies) if number} == {
        latency.place_of(0.052): 2,
        len(latency.BOUNDS): 1,
    }
    assert ok.starts_at.second == 0
    assert sum(RefreshMinute.objects.get(outcome="not_sent").latencies) == 0


def test_old_minutes_move_into_their_half_hour_and_the_total_and_nothing_is_counted_twice():
    config = ProviderConfigFactory()
    now = database_now()
    half_hour = spans.DAY.starts_of(now)[-8]
    minute(config, half_hour, 2, place=3)
    minute(config, half_hour + dt.timedelta(minutes=29), 5, place=4)
    young = now - KEEP_MINUTES + dt.timedelta(minutes=1)
    minute(config, young, 7)

    fold()
    # A worker that was late, or another machine at the same time.
    minute(config, half_hour + dt.timedelta(minutes=3), 1, place=3)
    fold()
    fold()

    half, total = RefreshCount.objects.get(), RefreshTotal.objects.get()
    assert (half.starts_at, half.count, half.waited_ms) == (half_hour, 8, 80)
    assert (half.latencies[3], half.latencies[4]) == (3, 5)
    assert (total.count, total.latencies) == (8, half.latencies)
    assert RefreshMinute.objects.get().starts_at == young
    assert refreshed(spans.DAY, config) == 15


def test_counts_from_before_the_times_were_kept_still_count():
    config = ProviderConfigFactory()
    start = spans.DAY.starts_of(database_now())[-8]
    RefreshCount.objects.create(
        provider_config=config, application=config.application, starts_at=start, outcome="ok", count=3
    )
    minute(config, start, 2)

    fold()

    assert RefreshCount.objects.get().count == 5
    counts = spans.read(spans.DAY, database_now(), [config.pk])
    for slices in (counts.by_step[start], counts.by_config[config.pk]):
        assert (slices[0].count, sum(slices[0].latencies)) == (5, 2)


@pytest.mark.parametrize("span", spans.SPANS.values(), ids=lambda span: span.name)
def test_a_span_is_read_in_its_own_steps_and_no_further_back(span):
    config, other = ProviderConfigFactory(), ProviderConfigFactory()
    now = database_now()
    starts = span.starts_of(now)
    minute(config, starts[0], 1)
    minute(config, starts[-1], 2)
    minute(config, starts[0] - dt.timedelta(minutes=1), 4)
    minute(other, starts[-1], 8)

    counts = spans.read(span, now, [config.pk])

    assert {step: slices[0].count for step, slices in counts.by_step.items()} == {starts[0]: 1, starts[-1]: 2}
    assert refreshed(span, config, other) == 11
