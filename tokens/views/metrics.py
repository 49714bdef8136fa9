"""For Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.http import require_safe
from prometheus_client.exposition import choose_encoder

from portal.metrics import REGISTRY
from tokens.metrics import DatabaseCollector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest
    from prometheus_client.metrics_core import Metric

LOOPBACK = {"127.0.0.1", "::1"}


class _Everything:
    def collect(self) -> Iterator[Metric]:
        yield from DatabaseCollector().collect()
        yield from REGISTRY.collect()


@login_not_required  # Prometheus has no login: METRICS_TOKEN is what counts.
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer with all metrics as Prometheus reads them, to whoever shows METRICS_TOKEN; to others it is not there."""
    if not _may_read(request):
        raise Http404
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(_Everything()), content_type=content_type)


def _may_read(request: HttpRequest) -> bool:
    if settings.METRICS_TOKEN:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        return kind.lower() == "bearer" and constant_time_compare(token.strip(), settings.METRICS_TOKEN)
    # Under `make run` this machine may look. Behind a proxy everybody seems to be on this machine, so never elsewhere.
    return (
        settings.INSECURE_HTTP
        and request.META.get("REMOTE_ADDR") in LOOPBACK
        and "X-Forwarded-For" not in request.headers
    )
