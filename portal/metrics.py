"""What this web process tells Prometheus of itself: its requests, memory and CPU.

Everything about connections is the database's and the same at every process: tokens/metrics.py.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from django.conf import settings
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics

if TYPE_CHECKING:
    from django.http import HttpRequest

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
_REQUESTS = Counter(
    "portal_http_requests",
    "Requests that this web process answered.",
    ["view", "method", "status"],
    registry=REGISTRY,
)
_SECONDS = Histogram(
    "portal_http_request_seconds",
    "How long they took, in seconds.",
    ["view"],
    registry=REGISTRY,
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
# Probes and files: counted, but not in the access log.
ASKED_ALL_THE_TIME = {"healthz", "readyz", "metrics", "static"}


def name_of(request: HttpRequest) -> str:
    """Return the name of the page that a request was for: one of a limited number, whatever was asked."""
    match = request.resolver_match
    if match is not None:
        return match.view_name or "unnamed"
    return "static" if request.path.startswith(settings.STATIC_URL) else "none"


def count_request(view: str, method: str, status: int, seconds: float) -> None:
    """Count one answered request."""
    _requests(view, method if method in METHODS else "other", status).inc()
    _seconds(view).observe(seconds)


@functools.cache
def _requests(view: str, method: str, status: int) -> Counter:
    return _REQUESTS.labels(view, method, status)


@functools.cache
def _seconds(view: str) -> Histogram:
    return _SECONDS.labels(view)
