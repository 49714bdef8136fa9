"""What Prometheus learns of the audit log's seals, read from the database when it asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connection
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

# Without a seal everything waits for one, from the first event on.
_SEALS = """
SELECT count(*), extract(epoch FROM statement_timestamp() - coalesce(max(until), (SELECT min(at) FROM portal_auditevent)))::float
FROM portal_auditseal
"""


def audit_metrics() -> list[Metric]:
    """Return how many seals there are and how old the newest is, in one statement."""
    with connection.cursor() as cursor:
        cursor.execute(_SEALS)
        seals, seconds = cursor.fetchone()
    number: Any = GaugeMetricFamily("portal_audit_seals", "Seals over the audit log.", seals)
    age: Any = GaugeMetricFamily(
        "portal_audit_seal_age_seconds",
        "Seconds since the time until which the audit log is sealed.",
        seconds or 0,
    )
    return [number, age]
