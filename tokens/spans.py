"""The spans of time that Health looks back over, and the counts in them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection

from tokens import latency

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
DAYTIME = "%H:%M"


@dataclass(frozen=True)
class Span:
    """A stretch of time up to now, in equal steps. `clock` is how a moment in it is written (strftime)."""

    name: str
    title: str
    words: str
    step: dt.timedelta
    step_words: str
    count: int
    tick: dt.timedelta
    clock: str = DAYTIME
    tick_clock: str = DAYTIME

    @property
    def minutes_a_step(self) -> int:
        """Return how many minutes a step has."""
        return self.step // dt.timedelta(minutes=1)

    def starts_of(self, now: dt.datetime) -> list[dt.datetime]:
        """Return when each of its steps up to `now` began; the last one is still running."""
        last = EPOCH + (now - EPOCH) // self.step * self.step
        return [last - self.step * number for number in reversed(range(self.count))]


_MINUTE, _HOUR = dt.timedelta(minutes=1), dt.timedelta(hours=1)
HOUR = Span("hour", "Last hour", "the last hour", _MINUTE, "by minute", 60, 10 * _MINUTE)
DAY = Span("day", "Last 24 hours", "the last 24 hours", 30 * _MINUTE, "by half hour", 48, 6 * _HOUR)
WEEK = Span(
    "week", "Last 7 days", "the last 7 days", 4 * _HOUR, "by four hours", 42, 24 * _HOUR, "%a %H:%M", "%a %-d"
)
SPANS = {span.name: span for span in (HOUR, DAY, WEEK)}


@dataclass(frozen=True)
class Slice:
    """The attempts of one configuration with one outcome in one step."""

    provider_config_id: uuid.UUID
    outcome: str
    starts_at: dt.datetime
    count: int
    latencies: list[int]


_SUMS = ", ".join(f"sum(coalesce(latencies[{place + 1}], 0))::bigint" for place in range(latency.SIZE))
_READ = f"""
SELECT provider_config_id, outcome, date_bin(%(step)s, starts_at, 'epoch'), sum(count)::bigint, ARRAY[{_SUMS}]
FROM (
    SELECT provider_config_id, outcome, starts_at, count, latencies FROM tokens_refreshminute
    WHERE starts_at >= %(since)s AND {{which}}
    UNION ALL
    SELECT provider_config_id, outcome, starts_at, count, latencies FROM tokens_refreshcount
    WHERE starts_at >= %(since)s AND {{which}}
) counted
GROUP BY 1, 2, 3
"""  # noqa: S608 - made of constants


def read(span: Span, now: dt.datetime, configs: Iterable[uuid.UUID] | None) -> list[Slice]:
    """Return the counts of some configurations (None: of all) in a span, in one statement."""
    which = "true" if configs is None else "provider_config_id = ANY(%(configs)s)"
    params: dict[str, Any] = {
        "step": span.step,
        "since": span.starts_of(now)[0],
        "configs": None if configs is None else list(configs),
    }
    with connection.cursor() as cursor:
        cursor.execute(_READ.format(which=which), params)
        return [Slice(*row) for row in cursor.fetchall()]
