"""Small middleware: a request id, the access log, nothing cached, and words where Django has none."""

from __future__ import annotations

import logging
import time
import uuid
from typing import TYPE_CHECKING

from django.shortcuts import render
from redis.exceptions import RedisError

from portal import metrics
from portal.audit import client_address
from portal.logs import current_request_id, redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

logger = logging.getLogger(__name__)
access_logger = logging.getLogger("portal.access")


class RequestIdMiddleware:
    """Give each request an id of ours, for log lines and audit events; a client's own id is not believed."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on and answer with its id."""
        request_id = uuid.uuid4().hex
        request.request_id = request_id  # type: ignore[attr-defined]
        token = current_request_id.set(request_id)
        try:
            response = self.get_response(request)
        finally:
            current_request_id.reset(token)
        response["X-Request-Id"] = request_id
        return response


class MeasuredMiddleware:
    """Count and time requests for the metrics, and write the access log: the path, never the query string (G6)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on."""
        started = time.perf_counter()
        response = self.get_response(request)
        took = time.perf_counter() - started
        view = metrics.name_of(request)
        metrics.count_request(view, request.method or "", response.status_code, took)
        if view not in metrics.ASKED_ALL_THE_TIME and access_logger.isEnabledFor(logging.INFO):
            # Some links end in a secret; it is taken out here, since not every handler formats as ours do.
            path = redact(request.path[:500])
            access_logger.info(
                "%s %s %d in %.0f ms",
                request.method,
                path,
                response.status_code,
                took * 1000,
                extra={
                    "method": request.method,
                    "path": path,
                    "view": view,
                    "status": response.status_code,
                    "ms": round(took * 1000, 1),
                    "client": client_address(request),
                },
            )
        return response


class NoStoreMiddleware:
    """Keep pages out of caches: they show other people's accounts (A13).

    It stands outside the others, so that what they answer by themselves is not kept either.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Add no-store unless the view chose otherwise."""
        response = self.get_response(request)
        response.headers.setdefault("Cache-Control", "no-store")
        return response


class OnlyFormsMiddleware:
    """Say in words that an address takes forms alone, to whoever comes there by reloading or by signing in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Put a page in place of Django's empty answer."""
        response = self.get_response(request)
        # The API has words of its own.
        if response.status_code != 405 or request.method != "GET" or response.streaming or response.content:
            return response
        page = render(request, "405.html", status=405)
        page["Allow"] = response["Allow"]
        return page


class RateLimitsGoneMiddleware:
    """Say in words that signing in must wait while the cache with the rate limits is gone.

    Without them passwords could be guessed, so what they guard stays closed (D8); everything else goes on.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer 503 if the cache did not answer."""
        if not isinstance(exception, RedisError):
            return None
        logger.error("The cache does not answer (%s).", type(exception).__name__)
        response = render(request, "errors/unavailable.html", status=503)
        response["Retry-After"] = "30"
        return response
