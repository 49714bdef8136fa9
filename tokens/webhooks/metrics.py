"""What Prometheus learns of webhooks, read from the database when it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection
from prometheus_client.core import GaugeMetricFamily

from portal.models.webhooks import FAILING_AFTER

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

# Of endpoints that are well: what waits for a broken one is no fault of the workers. Counted so far and no further.
_STATES = """
SELECT a.slug, count(*) FILTER (WHERE e.disabled_at IS NULL AND NOT is_failing),
    count(*) FILTER (WHERE e.disabled_at IS NULL AND is_failing), count(*) FILTER (WHERE e.disabled_at IS NOT NULL),
    coalesce(sum(due.number), 0)::bigint, extract(epoch FROM max(statement_timestamp() - due.oldest))::float
FROM portal_webhookendpoint e
JOIN portal_application a ON a.id = e.application_id
CROSS JOIN LATERAL (SELECT e.misses_in_a_row >= %s AS is_failing) state
LEFT JOIN LATERAL (
    SELECT count(*) AS number, min(next_attempt_at) AS oldest FROM (
        SELECT next_attempt_at FROM portal_webhookmessage
        WHERE endpoint_id = e.id AND status = 'pending' AND next_attempt_at <= statement_timestamp()
        ORDER BY next_attempt_at LIMIT 10001
    ) m
) due ON e.disabled_at IS NULL AND e.misses_in_a_row = 0
GROUP BY a.slug ORDER BY a.slug
"""


def webhook_metrics() -> list[Metric]:
    """Return how endpoints stand, and what is due to those that work, by application; in one statement."""
    endpoints = GaugeMetricFamily(
        "portal_webhook_endpoints", "Webhook endpoints, by how they stand.", labels=["application", "state"]
    )
    due = GaugeMetricFamily(
        "portal_webhooks_due", "Webhook messages that are due now.", labels=["application"]
    )
    oldest = GaugeMetricFamily(
        "portal_webhooks_due_oldest_seconds",
        "For how long the oldest of them has been due.",
        labels=["application"],
    )
    with connection.cursor() as cursor:
        cursor.execute(_STATES, [FAILING_AFTER])
        for slug, working, failing, disabled, waiting, seconds in cursor.fetchall():
            for state, number in (("working", working), ("failing", failing), ("disabled", disabled)):
                endpoints.add_metric([slug, state], number)
            due.add_metric([slug], waiting)
            oldest.add_metric([slug], seconds or 0)
    return [endpoints, due, oldest]
