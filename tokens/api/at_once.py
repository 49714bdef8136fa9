"""A token for a key, in one statement: it decides, writes the audit row and reads, or finds nothing and does nothing.

For the calls that come all day (hot_path.py, and the proxy). It has no words for errors: an old token, a wrong key, a
database in trouble, whatever is not exactly the usual case, goes the ordinary way as if this were not here. And it
remembers nothing that decides anything: a key or a grant that is taken back is refused at the next call. What
`recognise`, `hand_out` and `ensure_fresh` do stands in the statement; tests/tokens/api/test_hot_path.py and
test_proxy_at_once.py hold both ways to the same answers and the same audit rows.
"""

from __future__ import annotations

import functools
import json
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import connection, transaction
from psycopg.pq import DiagnosticField, ExecStatus

from portal.api_keys import note_use, parse
from portal.encryption import Place, UnreadableError, key_ring
from portal.models import Event
from portal.models.api_keys import KeyPermission
from portal.models.applications import digest
from portal.rate_limits import RATE_LIMITS, Left, LimitReachedError
from providers.catalog_loader import catalog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    import psycopg

    from providers.catalog_loader import Catalog

# $1 public id and $2 digest of the key, $3 min_ttl, $4 the caller's address, $5 the request's id, $6 each provider's
# `companion`, then what each statement is for.
#
# Everything is read at one moment, so a refresh that commits meanwhile cannot mix one generation's token with another's
# times (I12; `least` passes over nulls). Only digests of keys meet here: how long comparing takes tells nothing (C9).
_STATEMENT = """
WITH found AS (
    SELECT k.id AS key_id, k.name AS key_name, k.last_used_at, a.id AS application_id, a.name AS application_name,
        c.provider_id, g.id, g.gen, g.granted_scopes, g.access_expires_at, g.used_at, t.access_token,
        g.end_user || ' (' || coalesce(nullif(g.account_name, ''), g.account_id) || ')' AS grant_name,
        least(g.access_expires_at, least(now(), g.inflight_since) + ($6::jsonb ->> c.provider_id)::interval) AS use_until,
        {detail} AS detail
    FROM portal_apikey k
    JOIN portal_application a ON a.id = k.application_id AND a.archived_at IS NULL
    JOIN tokens_grant g ON g.application_id = k.application_id AND g.status = 'active' AND g.id = {grant}
    JOIN providers_providerconfig c ON c.id = g.provider_config_id AND c.is_enabled AND $6::jsonb ? c.provider_id
    JOIN tokens_granttokens t ON t.grant_id = g.id AND t.access_token IS NOT NULL
    {site}
    WHERE k.public_id = $1 AND k.secret_digest = $2 AND k.revoked_at IS NULL AND k.expires_at > now()
        AND '{permission}' = ANY(k.permissions)
        AND (cardinality(k.provider_ids) = 0 OR c.provider_id = ANY(k.provider_ids))
        AND (cardinality(k.networks) = 0 OR $4::inet <<= ANY(k.networks::cidr[]))
        AND (g.access_expires_at IS NULL
            OR g.access_expires_at - now() >= least($3::interval, (g.access_expires_at - g.refreshed_at) / 2))
), noted AS (
    INSERT INTO portal_auditevent (at, application_id, application_name, event, actor_kind, actor_id, actor_name,
        ip_address, subject_kind, subject_id, subject_name, detail, request_id)
    SELECT now(), application_id, application_name, '{event}', 'api_key', key_id::text, key_name,
        $4::inet, 'grant', id::text, left(grant_name, 254),
        detail || jsonb_build_object('provider', provider_id, 'gen', gen, 'use_until', use_until), $5::text
    FROM found
), used AS (
    UPDATE tokens_grant g SET used_at = now() FROM found
    WHERE g.id = found.id AND (found.used_at IS NULL OR found.used_at < now() - interval '1 minute')
)
SELECT {columns}, id::text, application_id::text, provider_id, key_id::text,
    (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')::text, access_token
FROM found
"""
_BY_ID = "$7::uuid"
# $7 an end user, $8 a provider: their only connection; pending and revoked ones stand in nobody's way.
_ONLY_ONE = """(
        SELECT (array_agg(o.id))[1] FROM tokens_grant o JOIN providers_providerconfig p ON p.id = o.provider_config_id
        WHERE o.application_id = k.application_id AND o.end_user = $7 AND p.provider_id = $8
            AND o.status IN ('active', 'needs_reconnect') HAVING count(*) = 1)"""
_TOKEN = {
    "event": Event.TOKEN_HANDED_OUT.value,
    "permission": KeyPermission.TOKENS_READ.value,
    "site": "",
    "detail": "'{}'::jsonb",
    "columns": """array_to_json(granted_scopes)::text,
    to_char(access_expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    to_char(use_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    (SELECT json_agg(json_build_array(cloud_id, name, url, products) ORDER BY name, cloud_id)::text
        FROM tokens_site s WHERE s.grant_id = found.id AND s.is_chosen)""",
}
# $8 the site and $10 the product as they were asked for, $9 the product's name by provider, $11 the method, $12 the path.
_PROXY = {
    "event": Event.PROXY_CALLED.value,
    "permission": KeyPermission.PROXY.value,
    "site": """CROSS JOIN LATERAL (
        SELECT min(s.cloud_id) AS cloud_id FROM tokens_site s
        WHERE s.grant_id = g.id AND s.is_chosen AND ($8::text IN ('-', s.cloud_id) OR lower(s.name) = lower($8::text))
        HAVING count(*) = 1 AND bool_and(($9::jsonb ->> c.provider_id) = ANY(s.products))) site""",
    "detail": "jsonb_build_object('method', $11::text, 'product', $10::text, 'site', site.cloud_id, 'path', $12::text)",
    "columns": """detail ->> 'site', gen::text, key_name,
    to_char(access_expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.USOF'),
    to_char(use_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.USOF')""",
}
_STATEMENTS = {
    b"hand_out_by_id": _STATEMENT.format(grant=_BY_ID, **_TOKEN).encode(),
    b"hand_out_by_end_user": _STATEMENT.format(grant=_ONLY_ONE, **_TOKEN).encode(),
    b"call_through": _STATEMENT.format(grant=_BY_ID, **_PROXY).encode(),
}
# Which of them each connection knows: planning costs more than running.
_prepared: weakref.WeakKeyDictionary[psycopg.Connection[Any], set[bytes]] = weakref.WeakKeyDictionary()
_BINARY = 1
_NO_SUCH_STATEMENT = b"26000"


class Taken(NamedTuple):
    """A token that was handed out, and what may still be asked. `columns` are the statement's own; null is ""."""

    columns: list[str]
    grant_id: str
    application_id: str
    provider_id: str
    key_id: str
    access_token: str
    left: Left


def key_in(environ: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the public id and the secret of a key that is presented as everybody does it."""
    scheme, _, presented = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return parse(presented) if scheme == "Bearer" else None


def take(
    statement: bytes,
    key: tuple[str, str],
    *sought: str,
    min_ttl: int,
    address: str | None,
    request_id: str,
) -> Taken | None:
    """Hand a token out, with its audit row, or return None. `key`: public id and secret; `min_ttl` in seconds."""
    specs, (public_id, secret) = catalog(), key
    if RATE_LIMITS.is_reached(public_id, address):
        return None
    row = _run(
        statement,
        public_id,
        digest(secret),
        f"{min_ttl} s",
        address,
        request_id,
        _companions(specs),
        *sought,
    )
    if row is None:
        return None
    *texts, sealed = row
    *columns, grant_id, application_id, provider_id, key_id, is_key_due = (text.decode() for text in texts)
    place = Place("tokens_granttokens", "access_token", row=grant_id, tenant=application_id)
    try:
        access_token = key_ring().unseal(sealed, place)
    except UnreadableError:  # The log then tells of a hand-out that failed: too much, never too little.
        return None
    if is_key_due == "true":
        note_use(key_id, ip_address=address)
    try:
        left = RATE_LIMITS.take(public_id, application_id)
    except LimitReachedError as error:  # By calls that came in meanwhile.
        left = error.left
    return Taken(columns, grant_id, application_id, provider_id, key_id, access_token, left)


def _run(statement: bytes, *parameters: str | None) -> list[bytes] | None:
    """Run a statement on Django's connection of this thread and return its only row, if it has one; null is b"".

    Through libpq itself, which waits without the interpreter's lock: psycopg's own way took ten times as long.
    """
    # Where all is one transaction, as in tests, a statement that the database refuses must not spoil the rest.
    point = transaction.savepoint() if connection.in_atomic_block else None
    if point is None:  # As Django does before each request.
        connection.close_if_unusable_or_obsolete()
    raw = connection.connection
    if raw is None:  # Django's way makes one.
        return None
    row = _row(raw, statement, [None if value is None else value.encode() for value in parameters])
    if point and row is None:
        transaction.savepoint_rollback(point)
    return row


def _row(raw: psycopg.Connection[Any], statement: bytes, values: list[Any]) -> list[bytes] | None:
    known = _prepared.setdefault(raw, set())
    if statement not in known:
        if raw.pgconn.prepare(statement, _STATEMENTS[statement]).status != ExecStatus.COMMAND_OK:
            return None
        known.add(statement)
    result = raw.pgconn.exec_prepared(statement, values, result_format=_BINARY)
    if result.status == ExecStatus.TUPLES_OK and result.ntuples == 1:
        return [result.get_value(0, column) or b"" for column in range(result.nfields)]
    if result.error_field(DiagnosticField.SQLSTATE) == _NO_SUCH_STATEMENT:
        known.discard(statement)  # A pooler gave us another session.
    return None


def _companions(specs: Catalog) -> str:
    """Return how long an old access token outlives the next refresh, by provider, as JSON for the statement."""
    return _companions_of(tuple((spec.id, spec.refresh.companion) for spec in specs.values()))


@functools.cache
def _companions_of(pairs: tuple[tuple[str, timedelta | None], ...]) -> str:
    return json.dumps({name: while_ and f"{while_.total_seconds()} s" for name, while_ in pairs})
