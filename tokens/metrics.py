"""What Prometheus learns of refreshing, read from the database when it asks.

So it is true over any number of machines, survives every restart, and is the same whichever web process answers. The
counters never fall: totals of what is older than two hours, and the minutes since (tokens/counts.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, connection
from django.utils import timezone
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from portal.audit_metrics import audit_metrics
from portal.instance import is_foreign
from providers.models import STOPPING_PROBLEMS, ProviderConfig
from tokens import backlog, latency
from tokens.clock import database_now
from tokens.models import UpstreamRevocation
from tokens.webhooks.metrics import webhook_metrics

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

_EVER = f"""
SELECT provider_config_id, outcome, sum(count)::bigint, {latency.SUM}, sum(waited_ms)::bigint
FROM (
    SELECT provider_config_id, outcome, count, latencies, waited_ms FROM tokens_refreshtotal
    UNION ALL
    SELECT provider_config_id, outcome, count, latencies, waited_ms FROM tokens_refreshminute
) ever
GROUP BY 1, 2
"""  # noqa: S608 - made of constants
OURS = ["application", "provider"]


class DatabaseCollector:
    """Reads everything anew at each scrape, in seven statements."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; while the database is gone only that it is."""
        try:
            found = [*_counters(), *_states(), _still_to_end(), *webhook_metrics(), *audit_metrics()]
        except DatabaseError:
            found = []
        yield GaugeMetricFamily("portal_database_up", "Whether the database answers.", 1 if found else 0)
        yield from found


def _still_to_end() -> Metric:
    waiting: Any = GaugeMetricFamily(
        "portal_upstream_revocations",
        "Tokens that were taken back here and that their provider has not ended yet.",
        UpstreamRevocation.objects.count(),
    )
    return waiting  # type: ignore[no-any-return]  # The package says nothing of its types.


def _counters() -> list[Metric]:
    attempts = CounterMetricFamily(
        "portal_refresh_attempts", "Attempts to refresh, by outcome.", labels=[*OURS, "outcome"]
    )
    seconds = HistogramMetricFamily(
        "portal_refresh_seconds", "How long providers took to answer, in seconds.", labels=["provider"]
    )
    names = _names()
    counts: dict[tuple[str, str, str], int] = {}
    histograms: dict[str, list[int]] = {}
    waited: dict[str, float] = {}
    with connection.cursor() as cursor:
        cursor.execute(_EVER)
        for config_id, outcome, count, latencies, waited_ms in cursor.fetchall():
            if config_id not in names:
                continue
            application, provider = names[config_id]
            key = (application, provider, outcome)
            counts[key] = counts.get(key, 0) + count
            histograms[provider] = latency.added([histograms.get(provider, []), latencies])
            waited[provider] = waited.get(provider, 0) + waited_ms / 1000
    for labels, count in sorted(counts.items()):
        attempts.add_metric(labels, count)
    for provider, histogram in sorted(histograms.items()):
        seconds.add_metric([provider], _cumulative(histogram), waited[provider])
    return [attempts, seconds]


def _names() -> dict[uuid.UUID, tuple[str, str]]:
    rows = ProviderConfig.objects.order_by().values_list("pk", "application__slug", "provider_id")
    return {pk: (slug, provider) for pk, slug, provider in rows}


def _cumulative(histogram: list[int]) -> list[tuple[str, float]]:
    seen, buckets = 0, []
    for bound, count in zip([*map(str, latency.BOUNDS), "+Inf"], histogram, strict=True):
        seen += count
        buckets.append((bound, float(seen)))
    return buckets


def _states() -> list[Metric]:
    configs = list(
        ProviderConfig.objects.filter(is_enabled=True, application__archived_at=None)
        .select_related("application")
        .order_by("application__slug", "provider_id")
    )
    backlogs = backlog.of([config.pk for config in configs])
    now = next((one.now for one in backlogs.values()), None) or database_now()
    works = GaugeMetricFamily(
        "portal_provider_works", "0 while a provider does not work for an application.", labels=OURS
    )
    problem = GaugeMetricFamily(
        "portal_provider_problem", "1 for what is wrong with it.", labels=[*OURS, "problem"]
    )
    paused = GaugeMetricFamily(
        "portal_provider_paused", "1 while it asked us to slow down (Retry-After).", labels=OURS
    )
    due = GaugeMetricFamily("portal_connections_due", "Connections whose refresh is due now.", labels=OURS)
    under_way = GaugeMetricFamily("portal_calls_under_way", "Calls to the token endpoint.", labels=OURS)
    oldest = GaugeMetricFamily(
        "portal_connections_due_oldest_seconds", "For how long the oldest of them has been due.", labels=OURS
    )
    attention = GaugeMetricFamily(
        "portal_connections_attention", "Connections that need somebody, by why.", labels=[*OURS, "why"]
    )
    for config in configs:
        one = backlogs.get(config.pk)
        if one is None:
            continue
        labels = [config.application.slug, config.provider_id]
        works.add_metric(labels, 0 if config.problem_code in STOPPING_PROBLEMS else 1)
        if config.problem_code:
            problem.add_metric([*labels, config.problem_code], 1)
        paused.add_metric(labels, 1 if config.paused_until and config.paused_until > now else 0)
        due.add_metric(labels, one.due)
        under_way.add_metric(labels, one.under_way)
        oldest.add_metric(labels, one.oldest.total_seconds() if one.oldest else 0)
        for why in ("failing", "needs_reconnect", "pending"):
            attention.add_metric([*labels, why], getattr(one, why))
    skew: Any = GaugeMetricFamily(
        "portal_clock_skew_seconds",
        "This machine's clock ahead of the database's.",
        (timezone.now() - now).total_seconds(),
    )
    foreign = GaugeMetricFamily(
        "portal_database_foreign",
        "1 while the database belongs to another installation, and nothing is refreshed.",
        1 if is_foreign() else 0,
    )
    return [works, problem, paused, due, oldest, under_way, attention, skew, foreign]
