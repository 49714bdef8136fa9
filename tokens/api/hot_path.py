"""The one call that must be fast: a token that is fresh, asked for by a key that may have it.

`GET grants/{id}/token` and `GET token` are what applications call all day, and nearly always there is nothing to do but
to look. Django's way there takes a dozen statements and thirty times as long. So this stands in front of Django and
answers that case alone, with one statement that decides, writes the audit row and reads (no row, no token: D9). It has
no words for errors: an old token, a wrong key, an unknown field, a database in trouble, whatever is not exactly the usual
case, goes the ordinary way as if this were not here. And it remembers nothing that decides anything: a key or a grant
that is taken back is refused at the next call.

What it bypasses, and why that is safe: Django's middleware (sessions, CSRF and logins mean nothing to a call with a key,
the headers are Django's own, asked of it once, and the audit row says more than a line in the access log), and what `recognise`, `hand_out` and `ensure_fresh` do; their rules
stand in the statement. tests/tokens/api/test_hot_path.py holds both ways to the same answers and the same audit rows.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from django.conf import settings
from django.db import connection
from django.http.request import split_domain_port, validate_host
from psycopg.pq import DiagnosticField, ExecStatus

from portal import metrics
from portal.api_keys import KEY_PATTERN, note_use, parse
from portal.audit import address_of
from portal.encryption import Place, UnreadableError, key_ring
from portal.models.applications import digest
from portal.rate_limits import RATE_LIMITS, LimitReachedError
from providers.catalog_loader import catalog
from tokens.api.shapes import site_shape, token_body
from tokens.api.token import MIN_TTL, MOST_MIN_TTL

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    import psycopg

    from providers.catalog_loader import Catalog

logger = logging.getLogger(__name__)

_GRANT_TOKEN = re.compile(r"/api/v1/grants/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/token")
_TOKEN = "/api/v1/token"  # noqa: S105 - An address.

# $1 public id and $2 digest of the key, $3 min_ttl, $4 the caller's address, $5 the request's id, $6 each provider's
# `companion`, $7 the grant or the end user, $8 the end user's provider.
#
# Everything is read at one moment, so a refresh that commits meanwhile cannot mix one generation's token with another's
# times (I12; `least` passes over nulls). Only digests of keys meet here: how long comparing takes tells nothing (C9).
_STATEMENT = """
WITH found AS (
    SELECT k.id AS key_id, k.name AS key_name, k.last_used_at, a.id AS application_id, a.name AS application_name,
        c.provider_id, g.id, g.gen, g.granted_scopes, g.access_expires_at, g.used_at, t.access_token,
        g.end_user || ' (' || coalesce(nullif(g.account_name, ''), g.account_id) || ')' AS grant_name,
        least(g.access_expires_at, least(now(), g.inflight_since) + ($6::jsonb ->> c.provider_id)::interval) AS use_until
    FROM portal_apikey k
    JOIN portal_application a ON a.id = k.application_id AND a.archived_at IS NULL
    JOIN tokens_grant g ON g.application_id = k.application_id AND g.status = 'active' AND g.id = {grant}
    JOIN providers_providerconfig c ON c.id = g.provider_config_id AND c.is_enabled AND $6::jsonb ? c.provider_id
    JOIN tokens_granttokens t ON t.grant_id = g.id AND t.access_token IS NOT NULL
    WHERE k.public_id = $1 AND k.secret_digest = $2 AND k.revoked_at IS NULL AND k.expires_at > now()
        AND 'tokens:read' = ANY(k.permissions) AND (cardinality(k.provider_ids) = 0 OR c.provider_id = ANY(k.provider_ids))
        AND (cardinality(k.networks) = 0 OR $4::inet <<= ANY(k.networks::cidr[]))
        AND (g.access_expires_at IS NULL
            OR g.access_expires_at - now() >= least($3::interval, (g.access_expires_at - g.refreshed_at) / 2))
), noted AS (
    INSERT INTO portal_auditevent (at, application_id, application_name, event, actor_kind, actor_id, actor_name,
        ip_address, subject_kind, subject_id, subject_name, detail, request_id)
    SELECT now(), application_id, application_name, 'token:handed_out', 'api_key', key_id::text, key_name,
        $4::inet, 'grant', id::text, left(grant_name, 254),
        jsonb_build_object('provider', provider_id, 'gen', gen, 'use_until', use_until), $5::text
    FROM found
), used AS (
    UPDATE tokens_grant g SET used_at = now() FROM found
    WHERE g.id = found.id AND (found.used_at IS NULL OR found.used_at < now() - interval '1 minute')
)
SELECT id::text, application_id::text, provider_id, array_to_json(granted_scopes)::text,
    to_char(access_expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    to_char(use_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    (SELECT json_agg(json_build_array(cloud_id, name, url, products) ORDER BY name, cloud_id)::text
        FROM tokens_site s WHERE s.grant_id = found.id AND s.is_chosen),
    key_id::text, (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')::text, access_token
FROM found
"""
# An end user's only connection with a provider; pending and revoked ones stand in nobody's way.
_ONLY_ONE = """(
        SELECT (array_agg(o.id))[1] FROM tokens_grant o JOIN providers_providerconfig p ON p.id = o.provider_config_id
        WHERE o.application_id = k.application_id AND o.end_user = $7 AND p.provider_id = $8
            AND o.status IN ('active', 'needs_reconnect') HAVING count(*) = 1)"""
_STATEMENTS = {
    b"hand_out_by_id": _STATEMENT.format(grant="$7::uuid").encode(),
    b"hand_out_by_end_user": _STATEMENT.format(grant=_ONLY_ONE).encode(),
}
# Which of them each connection knows: planning costs more than running.
_prepared: weakref.WeakKeyDictionary[psycopg.Connection[Any], set[bytes]] = weakref.WeakKeyDictionary()
_BINARY = 1
_NO_SUCH_STATEMENT = b"26000"


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
    address, request_id, specs = address_of(environ), os.urandom(16).hex(), catalog()
    if RATE_LIMITS.is_reached(asked.public_id, address):
        return None
    row = _run(
        asked.statement,
        asked.public_id,
        digest(asked.secret),
        f"{asked.min_ttl} s",
        address,
        request_id,
        _companions(specs),
        *asked.sought,
    )
    if row is None:
        return None
    *texts, sealed = row
    grant, application, provider, scopes, expires_at, use_until, sites, key_id, is_key_due = (
        text.decode() for text in texts
    )
    place = Place("tokens_granttokens", "access_token", row=grant, tenant=application)
    try:
        access_token = key_ring().unseal(sealed, place)
    except UnreadableError:  # The log then tells of a hand-out that failed: too much, never too little.
        return None
    body = token_body(
        access_token=access_token,
        expires_at=expires_at or None,
        use_until=use_until or None,
        scopes=json.loads(scopes),
        sites=[site_shape(specs[provider], *site) for site in json.loads(sites or "[]")],
        grant=grant,
    )
    if is_key_due == "true":
        note_use(key_id, ip_address=address)
    try:
        left = RATE_LIMITS.take(asked.public_id, application)
    except LimitReachedError as error:  # By calls that came in meanwhile.
        left = error.left
    text = json.dumps(body).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(text)),
        "X-Request-Id": request_id,
    }
    return {**headers, **left.headers()}, text


class _Asked(NamedTuple):
    statement: bytes
    public_id: str
    secret: str
    min_ttl: int
    sought: list[str]


def _read(environ: WSGIEnvironment) -> _Asked | None:
    """Read a request that leaves no question open."""
    by_id = _GRANT_TOKEN.fullmatch(environ["PATH_INFO"])
    if environ["REQUEST_METHOD"] != "GET" or not (by_id or environ["PATH_INFO"] == _TOKEN):
        return None
    scheme, _, presented = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    key = parse(presented) if scheme == "Bearer" else None
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
        return _Asked(b"hand_out_by_id", *key, int(min_ttl), [by_id[1]])
    if by_id or set(fields) != {"end_user", "provider"}:
        return None
    sought = [fields["end_user"], fields["provider"]]
    # What is blank, endless, unprintable or a key (D4) is for those who can say so.
    if any(not re.fullmatch(r"[!-~]{1,50}", text) or KEY_PATTERN.search(text) for text in sought):
        return None
    return _Asked(b"hand_out_by_end_user", *key, int(min_ttl), sought)


def _run(statement: bytes, *parameters: str | None) -> list[bytes] | None:
    """Run a statement on Django's connection of this thread and return its only row, if it has one; null is b"".

    Through libpq itself, which waits without the interpreter's lock: psycopg's own way took ten times as long.
    """
    if (
        not connection.in_atomic_block
    ):  # As Django does before each request, which tests put into a transaction.
        connection.close_if_unusable_or_obsolete()
    raw = connection.connection
    if raw is None:  # Django's way makes one.
        return None
    known = _prepared.setdefault(raw, set())
    if statement not in known:
        if raw.pgconn.prepare(statement, _STATEMENTS[statement]).status != ExecStatus.COMMAND_OK:
            return None
        known.add(statement)
    values = [None if value is None else value.encode() for value in parameters]
    result = raw.pgconn.exec_prepared(statement, values, result_format=_BINARY)
    if result.status != ExecStatus.TUPLES_OK or result.ntuples != 1:
        if (
            result.error_field(DiagnosticField.SQLSTATE) == _NO_SUCH_STATEMENT
        ):  # A pooler gave us another session.
            known.discard(statement)
        return None
    return [result.get_value(0, column) or b"" for column in range(result.nfields)]


@functools.lru_cache(maxsize=64)
def _is_ours(host: str, allowed: tuple[str, ...]) -> bool:
    return bool(host) and validate_host(split_domain_port(host)[0], allowed)


def _companions(specs: Catalog) -> str:
    """Return how long an old access token outlives the next refresh, by provider, as JSON for the statement."""
    return _companions_of(tuple((spec.id, spec.refresh.companion) for spec in specs.values()))


@functools.cache
def _companions_of(pairs: tuple[tuple[str, timedelta | None], ...]) -> str:
    return json.dumps({name: while_ and f"{while_.total_seconds()} s" for name, while_ in pairs})
