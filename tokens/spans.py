"""The spans of time that Health looks back over, and the counts in them."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import connection

from tokens import latency
from tokens.results import FENCED

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
    """The attempts with one outcome, and the answers by how long they took."""

    outcome: str
    count: int
    latencies: list[int]


@dataclass
class Counts:
    """The same attempts twice: by the start of each step, and by configuration."""

    by_step: defaultdict[dt.datetime, list[Slice]] = field(default_factory=lambda: defaultdict(list))
    by_config: defaultdict[uuid.UUID, list[Slice]] = field(default_factory=lambda: defaultdict(list))


# Added up here, not in Python: a thousand configurations have a million rows in a week.
_READ = f"""
SELECT step, provider_config_id, outcome, sum(count)::bigint, {latency.SUM}
FROM (
    SELECT provider_config_id, outcome, date_bin(%(step)s, starts_at, 'epoch') AS step, count, latencies
    FROM tokens_refreshminute WHERE starts_at >= %(since)s AND provider_config_id = ANY(%(configs)s)
    UNION ALL
    SELECT provider_config_id, outcome, date_bin(%(step)s, starts_at, 'epoch'), count, latencies
    FROM tokens_refreshcount WHERE starts_at >= %(since)s AND provider_config_id = ANY(%(configs)s)
) counted
GROUP BY GROUPING SETS ((step, outcome), (provider_config_id, outcome))
"""  # noqa: S608 - made of constants


def read(span: Span, now: dt.datetime, configs: Iterable[uuid.UUID]) -> Counts:
    """Return the counts of some configurations in a span, in one statement.

    Answers that came too late to count are neither refreshes nor failures, and not among them.
    """
    params: dict[str, Any] = {"step": span.step, "since": span.starts_of(now)[0], "configs": list(configs)}
    counts = Counts()
    with connection.cursor() as cursor:
        cursor.execute(_READ, params)
        for step, config_id, outcome, *rest in cursor.fetchall():
            if outcome == FENCED:
                continue
            if config_id is None:
                counts.by_step[step].append(Slice(outcome, *rest))
            else:
                counts.by_config[config_id].append(Slice(outcome, *rest))
    return counts
