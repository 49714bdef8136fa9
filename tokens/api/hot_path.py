"""The one call that must be fast: a token that is fresh, asked for by a key that may have it.

`GET grants/{id}/token` and `GET token` are what applications call all day, and nearly always there is nothing to do but
to look. Django's way there takes a dozen statements and thirty times as long. So this stands in front of Django and
answers that case alone, with the one statement of at_once.py (no row in the audit log, no token: D9), and leaves
everything else to Django as if this were not here.

What it bypasses, and why that is safe: Django's middleware. Sessions, CSRF and logins mean nothing to a call with a key,
the headers are Django's own, asked of it once, and the audit row says more than a line in the access log.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from portal import metrics
from portal.api_keys import KEY_PATTERN
from portal.audit import address_of
from providers.catalog_loader import catalog
from tokens.api.at_once import key_in, take
from tokens.api.shapes import site_shape, token_body
from tokens.api.token import MIN_TTL, MOST_MIN_TTL

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

_GRANT_TOKEN = re.compile(r"/api/v1/grants/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/token")
_TOKEN = "/api/v1/token"  # noqa: S105 - An address.


class HotPath:
    """A WSGI application that answers the usual case at once, and leaves everything else to Django."""

    def __init__(self, django: WSGIApplication) -> None:
        self.django = django
        self._django_headers: dict[str, list[tuple[str, str]]] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        try:
            answer = self.at_once(environ)
        except Exception:  # Whatever it is, Django's way has the words for it.
            logger.exception("The hot path failed, and the call goes the ordinary way.")
            answer = None
        if answer is None:
            return self.django(environ, start_response)
        headers, body = answer
        start_response("200 OK", headers)
        return [body]

    def at_once(self, environ: WSGIEnvironment) -> tuple[list[tuple[str, str]], bytes] | None:
        """Return headers and body of the usual case's answer, or None for every other case."""
        started = time.perf_counter()
        answer = _hand_out(environ)
        if answer is None:
            return None
        headers, body = answer
        view = "api-token" if environ["PATH_INFO"] == _TOKEN else "api-grant-token"
        metrics.count_request(view, "GET", 200, time.perf_counter() - started)
        return [*headers.items(), *self._headers_of_django(environ)], body

    def _headers_of_django(self, environ: WSGIEnvironment) -> list[tuple[str, str]]:
        """Return what Django's middleware puts on every answer of the API: asked once, by scheme."""
        scheme = environ.get("HTTP_X_FORWARDED_PROTO", "")
        if scheme not in self._django_headers:
            found: list[tuple[str, str]] = []

            def keep(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:
                found.extend(headers)

            asked = {**environ, "PATH_INFO": "/api/v1/problems/not_found", "QUERY_STRING": ""}
            answer = self.django(asked, keep)
            getattr(answer, "close", lambda: None)()
            own = {"content-type", "content-length", "x-request-id"}
            self._django_headers[scheme] = [pair for pair in found if pair[0].lower() not in own]
        return self._django_headers[scheme]


def _hand_out(environ: WSGIEnvironment) -> tuple[dict[str, str], bytes] | None:
    """Return an answer's own headers and its body, or None."""
    asked = _read(environ)
    if asked is None:
        return None
    request_id = os.urandom(16).hex()
    taken = take(
        asked.statement,
        asked.key,
        min_ttl=asked.min_ttl,
        address=address_of(environ),
        request_id=request_id,
        **asked.sought,
    )
    if taken is None:
        return None
    scopes, expires_at, use_until, sites = taken.columns
    spec = catalog()[taken.provider_id]
    body = token_body(
        access_token=taken.access_token,
        expires_at=expires_at or None,
        use_until=use_until or None,
        scopes=json.loads(scopes),
        sites=[site_shape(spec, *site) for site in json.loads(sites or "[]")],
        grant=taken.grant_id,
    )
    text = json.dumps(body).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(text)),
        "X-Request-Id": request_id,
    }
    return {**headers, **taken.left.headers()}, text


class _Asked(NamedTuple):
    statement: bytes
    key: tuple[str, str]
    min_ttl: int
    sought: dict[str, str]


def _read(environ: WSGIEnvironment) -> _Asked | None:
    """Read a request that leaves no question open."""
    by_id = _GRANT_TOKEN.fullmatch(environ["PATH_INFO"])
    if environ["REQUEST_METHOD"] != "GET" or not (by_id or environ["PATH_INFO"] == _TOKEN):
        return None
    key = key_in(environ)
    query = environ.get("QUERY_STRING", "")
    if (
        key is None
        or not query.isascii()
        or not _is_ours(environ.get("HTTP_HOST", environ["SERVER_NAME"]), tuple(settings.ALLOWED_HOSTS))
        or environ.get("HTTP_X_FORWARDED_PROTO", "") not in ("", "http", "https")
        or environ.get("CONTENT_LENGTH", "") not in ("", "0")
        or "HTTP_TRANSFER_ENCODING" in environ
    ):
        return None
    given = parse_qsl(query, keep_blank_values=True)
    fields = dict(given)
    if len(fields) < len(given):
        return None
    min_ttl = fields.pop("min_ttl", str(MIN_TTL))
    if not re.fullmatch(r"[0-9]{1,4}", min_ttl) or int(min_ttl) > MOST_MIN_TTL:
        return None
    if by_id and not fields:
        return _Asked(b"hand_out_by_id", key, int(min_ttl), {"grant_id": by_id[1]})
    if by_id or set(fields) != {"end_user", "provider"}:
        return None
    # What is blank, endless, unprintable or a key (D4) is for those who can say so.
    if any(not re.fullmatch(r"[!-~]{1,50}", text) or KEY_PATTERN.search(text) for text in fields.values()):
        return None
    return _Asked(b"hand_out_by_end_user", key, int(min_ttl), fields)


@functools.lru_cache(maxsize=64)
def _is_ours(host: str, allowed: tuple[str, ...]) -> bool:
    return bool(host) and validate_host(split_domain_port(host)[0], allowed)
