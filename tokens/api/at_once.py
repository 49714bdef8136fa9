"""Tokens for keys, in one statement: it decides, writes the audit rows and reads, or finds nothing and does nothing.

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
from tokens.api.together import Together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    import psycopg
    from psycopg.pq.abc import PGresult

    from providers.catalog_loader import Catalog

# $1 what is asked for, a list of objects, and $2 each provider's `companion`, both JSON.
#
# Everything is read at one moment, so a refresh that commits meanwhile cannot mix one generation's token with another's
# times (I12; `least` passes over nulls). Only digests of keys meet here: how long comparing takes tells nothing (C9).
# Each is looked up on its own (OFFSET keeps the planner from another idea), as if it had come alone. The note of a use
# waits for nobody, so that those who lock several grants, in whatever order, cannot wait for each other.
_STATEMENT = """
WITH found AS (
    SELECT asked.n, asked.address, asked.request_id, one.*
    FROM json_to_recordset($1) AS asked(n int, public_id text, secret_digest text, min_ttl interval, address inet,
        request_id text, {asked})
    CROSS JOIN LATERAL (
        SELECT k.id AS key_id, k.name AS key_name, k.last_used_at, a.id AS application_id, a.name AS application_name,
            c.provider_id, g.id, g.gen, g.granted_scopes, g.access_expires_at, g.used_at, t.access_token,
            g.end_user || ' (' || coalesce(nullif(g.account_name, ''), g.account_id) || ')' AS grant_name,
            least(g.access_expires_at, least(now(), g.inflight_since) + ($2::jsonb ->> c.provider_id)::interval)
                AS use_until,
            {detail} AS detail
        FROM portal_apikey k
        JOIN portal_application a ON a.id = k.application_id AND a.archived_at IS NULL
        JOIN tokens_grant g ON g.application_id = k.application_id AND g.status = 'active' AND g.id = {grant}
        JOIN providers_providerconfig c ON c.id = g.provider_config_id AND c.is_enabled AND $2::jsonb ? c.provider_id
        JOIN tokens_granttokens t ON t.grant_id = g.id AND t.access_token IS NOT NULL
        {site}
        WHERE k.public_id = asked.public_id AND k.secret_digest = asked.secret_digest AND k.revoked_at IS NULL
            AND k.expires_at > now() AND '{permission}' = ANY(k.permissions)
            AND (cardinality(k.provider_ids) = 0 OR c.provider_id = ANY(k.provider_ids))
            AND (cardinality(k.networks) = 0 OR asked.address <<= ANY(k.networks::cidr[]))
            AND (g.access_expires_at IS NULL
                OR g.access_expires_at - now() >= least(asked.min_ttl, (g.access_expires_at - g.refreshed_at) / 2))
        OFFSET 0
    ) one
), noted AS (
    INSERT INTO portal_auditevent (at, application_id, application_name, event, actor_kind, actor_id, actor_name,
        ip_address, subject_kind, subject_id, subject_name, detail, request_id)
    SELECT now(), application_id, application_name, '{event}', 'api_key', key_id::text, key_name,
        address, 'grant', id::text, left(grant_name, 254),
        detail || jsonb_build_object('provider', provider_id, 'gen', gen, 'use_until', use_until), request_id
    FROM found ORDER BY n
), used AS (
    UPDATE tokens_grant SET used_at = now() WHERE id = ANY(ARRAY(
        SELECT g.id FROM tokens_grant g
        WHERE g.id = ANY(ARRAY(SELECT id FROM found WHERE used_at IS NULL OR used_at < now() - interval '1 minute'))
        FOR UPDATE SKIP LOCKED
    ))
)
SELECT n::text, {columns}, id::text, application_id::text, provider_id, key_id::text,
    (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')::text, access_token
FROM found
"""
_BY_ID = {"asked": "grant_id uuid", "grant": "asked.grant_id"}
# Their only connection; pending and revoked ones stand in nobody's way.
_ONLY_ONE = {
    "asked": "end_user text, provider text",
    "grant": """(
            SELECT (array_agg(o.id))[1] FROM tokens_grant o
            JOIN providers_providerconfig p ON p.id = o.provider_config_id
            WHERE o.application_id = k.application_id AND o.end_user = asked.end_user AND p.provider_id = asked.provider
                AND o.status IN ('active', 'needs_reconnect') HAVING count(*) = 1)""",
}
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
# `site` and `product` as they were asked for, `products` the product's name by provider.
_PROXY = {
    "asked": "grant_id uuid, site text, products jsonb, product text, method text, path text",
    "grant": "asked.grant_id",
    "event": Event.PROXY_CALLED.value,
    "permission": KeyPermission.PROXY.value,
    "site": """CROSS JOIN LATERAL (
            SELECT min(s.cloud_id) AS cloud_id FROM tokens_site s
            WHERE s.grant_id = g.id AND s.is_chosen AND (asked.site IN ('-', s.cloud_id) OR lower(s.name) = lower(asked.site))
            HAVING count(*) = 1 AND bool_and((asked.products ->> c.provider_id) = ANY(s.products))) site""",
    "detail": """jsonb_build_object('method', asked.method, 'product', asked.product, 'site', site.cloud_id,
                'path', asked.path)""",
    "columns": """detail ->> 'site', gen::text, key_name,
    to_char(access_expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.USOF'),
    to_char(use_until AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.USOF')""",
}
_STATEMENTS = {
    b"hand_out_by_id": _STATEMENT.format(**_BY_ID, **_TOKEN).encode(),
    b"hand_out_by_end_user": _STATEMENT.format(**_ONLY_ONE, **_TOKEN).encode(),
    b"call_through": _STATEMENT.format(**_PROXY).encode(),
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
    *,
    min_ttl: int,
    address: str | None,
    request_id: str,
    **sought: Any,
) -> Taken | None:
    """Hand a token out, with its audit row, or return None. `key`: public id and secret; `min_ttl` in seconds."""
    public_id, secret = key
    if RATE_LIMITS.is_reached(public_id, address):
        return None
    asked = {
        "public_id": public_id,
        "secret_digest": digest(secret),
        "min_ttl": f"{min_ttl} s",
        "address": address,
        "request_id": request_id,
        **sought,
    }
    row = _carry(statement, [asked])[0] if connection.in_atomic_block else _ask(statement, asked)
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


def _ask(statement: bytes, asked: dict[str, Any]) -> list[bytes] | None:
    """Ask for it in one statement with whatever is asked for at the same time."""
    # As Django does before each request; where there is none, Django's way makes one.
    connection.close_if_unusable_or_obsolete()
    return None if connection.connection is None else _TOGETHER[statement].ask(asked)


def _carry(statement: bytes, asked: Sequence[dict[str, Any]]) -> list[list[bytes] | None]:
    """Run a statement on Django's connection of this thread and return each one's row, if it has one; null is b""."""
    # Where all is one transaction, as in tests, a statement that the database refuses must not spoil the rest.
    point = transaction.savepoint() if connection.in_atomic_block else None
    result = _run(connection.connection, statement, asked)
    if point and result is None:
        transaction.savepoint_rollback(point)
    if result is None and len(asked) > 1:  # One of them must not spoil it for the others.
        return [_carry(statement, [one])[0] for one in asked]
    rows: list[list[bytes] | None] = [None] * len(asked)
    if result is not None:
        for row in range(result.ntuples):
            number, *values = (result.get_value(row, column) or b"" for column in range(result.nfields))
            rows[int(number)] = values
    return rows


def _run(raw: psycopg.Connection[Any], statement: bytes, asked: Sequence[dict[str, Any]]) -> PGresult | None:
    """Run a statement; None where the database refuses it.

    Through libpq itself, which waits without the interpreter's lock: psycopg's own way took ten times as long.
    """
    known = _prepared.setdefault(raw, set())
    if statement not in known:
        if raw.pgconn.prepare(statement, _STATEMENTS[statement]).status != ExecStatus.COMMAND_OK:
            return None
        known.add(statement)
    numbered = json.dumps([{"n": number, **one} for number, one in enumerate(asked)])
    values = [numbered.encode(), _companions(catalog()).encode()]
    result = raw.pgconn.exec_prepared(statement, values, result_format=_BINARY)
    if result.status == ExecStatus.TUPLES_OK:
        return result
    if result.error_field(DiagnosticField.SQLSTATE) == _NO_SUCH_STATEMENT:
        known.discard(statement)  # A pooler gave us another session.
    return None


def _companions(specs: Catalog) -> str:
    """Return how long an old access token outlives the next refresh, by provider, as JSON for the statement."""
    return _companions_of(tuple((spec.id, spec.refresh.companion) for spec in specs.values()))


@functools.cache
def _companions_of(pairs: tuple[tuple[str, timedelta | None], ...]) -> str:
    return json.dumps({name: while_ and f"{while_.total_seconds()} s" for name, while_ in pairs})


_TOGETHER: dict[bytes, Together[dict[str, Any], list[bytes]]] = {
    name: Together(functools.partial(_carry, name)) for name in _STATEMENTS
}
