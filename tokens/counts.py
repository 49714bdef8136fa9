"""Count attempts by minute as they are committed, and move the minutes into half hours and totals later.

The minutes are written in the commit itself, so no attempt is counted twice or not at all. Old ones move in one
statement: whoever reads sees an attempt before or after the move, never in both places.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import connection

from tokens import latency
from tokens.raw import raw_cursor

if TYPE_CHECKING:
    import uuid

    from tokens.results import Committed, Result

# How long minutes are kept; longer than the charts show them.
KEEP_MINUTES = timedelta(hours=2)

_ADDED = (
    "ARRAY(SELECT coalesce(a, 0) + coalesce(b, 0) FROM unnest(t.latencies, excluded.latencies) AS u (a, b))"
)
# What an insert does where the row is there already.
ADD_UP = f"""
    DO UPDATE SET count = t.count + excluded.count, waited_ms = t.waited_ms + excluded.waited_ms, latencies = {_ADDED}
"""

# One order for everybody, so that two workers' groups can't wait for each other.
_COUNT = f"""
INSERT INTO tokens_refreshminute AS t
    (provider_config_id, application_id, starts_at, outcome, count, latencies, waited_ms)
SELECT c.id, c.application_id, date_trunc('minute', now()), a.outcome, a.count, a.latencies::bigint[], a.waited_ms
FROM unnest(%(configs)s::uuid[], %(outcomes)s::text[], %(counts)s::int[], %(latencies)s::text[], %(waits)s::bigint[])
    AS a (config, outcome, count, latencies, waited_ms)
JOIN providers_providerconfig c ON c.id = a.config
ORDER BY c.id, a.outcome FOR KEY SHARE OF c
ON CONFLICT (provider_config_id, starts_at, outcome) {ADD_UP}
"""  # noqa: S608 - made of constants

_FOLD = f"""
WITH gone AS (
    DELETE FROM tokens_refreshminute
    WHERE starts_at < date_bin('30 minutes', now() - %(keep)s, 'epoch')
    RETURNING *
),
halves AS (
    INSERT INTO tokens_refreshcount AS t
        (provider_config_id, application_id, starts_at, outcome, count, latencies, waited_ms)
    SELECT provider_config_id, application_id, date_bin('30 minutes', starts_at, 'epoch'), outcome,
        sum(count), {latency.SUM}, sum(waited_ms)
    FROM gone GROUP BY 1, 2, 3, 4 ORDER BY 1, 3, 4
    ON CONFLICT (provider_config_id, starts_at, outcome) {ADD_UP}
)
INSERT INTO tokens_refreshtotal AS t (provider_config_id, application_id, outcome, count, latencies, waited_ms)
SELECT provider_config_id, application_id, outcome, sum(count), {latency.SUM}, sum(waited_ms)
FROM gone GROUP BY 1, 2, 3 ORDER BY 1, 3
ON CONFLICT (provider_config_id, outcome) {ADD_UP}
"""  # noqa: S608 - made of constants


def count(results: list[Result], done: dict[uuid.UUID, Committed]) -> None:
    """Add a group to the counts of this minute; a configuration that was deleted meanwhile has none."""
    counts: defaultdict[tuple[uuid.UUID, str], int] = defaultdict(int)
    histograms: defaultdict[tuple[uuid.UUID, str], list[int]] = defaultdict(lambda: [0] * latency.SIZE)
    waited: defaultdict[tuple[uuid.UUID, str], float] = defaultdict(float)
    for result in results:
        key = (result.config.pk, str(done[result.claim.grant_id].outcome))
        counts[key] += 1
        if result.took is not None:
            histograms[key][latency.place_of(result.took)] += 1
            waited[key] += result.took
    with raw_cursor() as cursor:
        cursor.execute(
            _COUNT,
            {
                "configs": [config for config, _ in counts],
                "outcomes": [outcome for _, outcome in counts],
                "counts": list(counts.values()),
                # As text: unnest would take an array of arrays apart down to its numbers.
                "latencies": ["{" + ",".join(map(str, histograms[key])) + "}" for key in counts],
                "waits": [round(waited[key] * 1000) for key in counts],
            },
        )


def fold() -> None:
    """Move old minutes into their half hours and into the totals. Doing it twice, or on ten machines, is harmless."""
    params: dict[str, Any] = {"keep": KEEP_MINUTES}
    with connection.cursor() as cursor:
        cursor.execute(_FOLD, params)
