"""Claim grants: the one statement that decides who refreshes what.

A claim is a durable note, committed before any call: this owner may spend this generation's refresh token until
`claim_until`, and an answer may be in flight from now on. The journal's row is written with it. Whoever gets no row
back must not call the provider. How many may be claimed is asked of tokens/gate.py first, under its lock.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import OperationalError, connection, transaction
from psycopg.errors import LockNotAvailable

from portal.instance import is_foreign
from providers.catalog_loader import catalog
from tokens import gate, moments
from tokens.gate import LEASE, LEASE_SLACK

if TYPE_CHECKING:
    import datetime as dt
    import uuid
    from collections.abc import Mapping

    from django.db.backends.utils import CursorWrapper

    from tokens.gate import Gate
    from tokens.models import Grant, Trigger

HOST = socket.gethostname()[:80]
# Configurations that are locked, and claimed for, at a time.
CONFIGS_AT_ONCE = 100
# A probe is drawn from so many that are longest due, so that one bad grant does not speak for all.
PROBE_FROM = 50


@dataclass(frozen=True)
class Claim:
    """A claimed grant with what is needed to refresh it. The sealed tokens are not in its repr."""

    grant_id: uuid.UUID
    application_id: uuid.UUID
    provider_config_id: uuid.UUID
    gen: int
    epoch: int
    # When an earlier answer for this very generation was lost; None if none was.
    inflight_since: dt.datetime | None
    # Whether the provider's last word on it was that it is over.
    was_refused: bool
    config_problem: str
    refresh_token: bytes | None = field(repr=False)
    # Monotonic seconds of this process: after this moment the claim must not be used to send.
    send_before: float
    # Whether somebody asked for the token just now.
    is_read: bool = False


# Where a second use of the token ends the grant, a claim that runs out with nothing written down is not followed by
# another before the access token is used up: its owner may only be slow.
_CLAIM = """
WITH picked AS ({picked}),
claimed AS (
    UPDATE tokens_grant g
    SET claim_owner = gen_random_uuid(), claim_epoch = g.claim_epoch + 1, claim_until = clock_timestamp() + %(lease)s,
        inflight_gen = g.gen, inflight_since = coalesce(g.inflight_since, clock_timestamp()),
        refresh_due_at = CASE WHEN p.is_strict THEN greatest(g.refresh_due_at, g.access_expires_at) ELSE g.refresh_due_at END,
        next_attempt_at = CASE WHEN p.is_strict THEN g.access_expires_at ELSE g.next_attempt_at END
    FROM picked p WHERE g.id = p.id
    RETURNING g.id, g.application_id, g.provider_config_id, g.gen, g.claim_epoch, p.inflight_since,
        p.fail_outcome = 'grant_dead', p.problem_code
),
journal AS (
    INSERT INTO tokens_refreshattempt (grant_id, provider_config_id, gen, epoch, trigger, worker, claimed_at,
        outcome, error_code, cause)
    SELECT id, provider_config_id, gen, claim_epoch, %(trigger)s, %(worker)s, clock_timestamp(), '', '', ''
    FROM claimed
)
SELECT claimed.*, t.refresh_token
FROM claimed LEFT JOIN tokens_granttokens t ON t.grant_id = claimed.id
"""

# So many of each configuration, in due order; but those first whose last answer was lost, since a leeway runs out on
# them, unless one call is to tell how the configuration does. What a condition on an index is compared with must be
# stable, hence statement_timestamp() and not clock_timestamp(). The last line changes nothing but what the planner
# thinks: without it it takes ten per cent of what is due for a batch, and reads whole tables.
_DUE = """
    WITH wanted AS (
        SELECT c.id AS config_id, r.room, r.is_probe, r.skip, c.problem_code,
            c.provider_id = ANY(%(strict)s) AS is_strict
        FROM unnest(%(configs)s::uuid[], %(rooms)s::int[], %(probes)s::bool[], %(skips)s::int[])
            AS r (config_id, room, is_probe, skip)
        JOIN providers_providerconfig c ON c.id = r.config_id
    ),
    lost AS MATERIALIZED (
        SELECT g.id, g.inflight_since, g.fail_outcome, w.problem_code, w.is_strict, w.config_id
        FROM wanted w
        CROSS JOIN LATERAL (
            SELECT id, inflight_since, fail_outcome FROM tokens_grant
            WHERE provider_config_id = w.config_id AND status = 'active' AND fail_outcome = 'ambiguous'
                AND refresh_due_at <= statement_timestamp()
                AND (claim_until IS NULL OR claim_until <= statement_timestamp())
            ORDER BY refresh_due_at LIMIT CASE WHEN w.is_probe THEN 0 ELSE w.room END
            FOR UPDATE SKIP LOCKED
        ) g
    ),
    others AS MATERIALIZED (
        SELECT g.id, g.inflight_since, g.fail_outcome, w.problem_code, w.is_strict
        FROM wanted w
        CROSS JOIN LATERAL (
            SELECT id, inflight_since, fail_outcome FROM tokens_grant
            WHERE provider_config_id = w.config_id AND status = 'active' AND (w.is_probe OR fail_outcome <> 'ambiguous')
                AND refresh_due_at <= statement_timestamp()
                AND (claim_until IS NULL OR claim_until <= statement_timestamp())
            ORDER BY refresh_due_at
            OFFSET w.skip LIMIT w.room - (SELECT count(*) FROM lost WHERE lost.config_id = w.config_id)
            FOR UPDATE SKIP LOCKED
        ) g
    )
    (SELECT id, inflight_since, fail_outcome, problem_code, is_strict FROM lost
    UNION ALL SELECT * FROM others)
    LIMIT %(most)s
"""

_ONE = """
    SELECT g.id, g.inflight_since, g.fail_outcome, c.problem_code, c.provider_id = ANY(%(strict)s) AS is_strict
    FROM tokens_grant g
    JOIN providers_providerconfig c ON c.id = g.provider_config_id AND c.is_enabled AND c.provider_id = ANY(%(known)s)
    JOIN portal_application a ON a.id = c.application_id AND a.archived_at IS NULL
    WHERE g.id = %(grant)s AND g.status = ANY(%(statuses)s) AND (g.gen = %(gen)s OR %(gen)s IS NULL)
        AND (g.claim_until IS NULL OR g.claim_until <= clock_timestamp())
        AND (%(is_forced)s OR (
            (g.next_attempt_at IS NULL OR g.next_attempt_at <= clock_timestamp())
            AND (c.paused_until IS NULL OR c.paused_until <= clock_timestamp())
        ))
    FOR UPDATE OF g SKIP LOCKED
"""


def claim_due(
    *,
    limit: int,
    trigger: Trigger,
    most: Mapping[uuid.UUID, int] | None = None,
    most_of_others: int | None = None,
) -> list[Claim]:
    """Claim up to `limit` grants whose refresh is due, shared evenly between configurations.

    `most` says of how many of a configuration the caller has use, `most_of_others` the same of those it does not
    name. One that does not work is tried with a single grant from time to time. Durable on return. Any number of
    workers may call this at once; no grant is claimed twice, and no configuration gets more calls than its limits say.
    """
    if is_foreign() or limit <= 0:
        return []
    most = most or {}
    moments.reached(moments.BEFORE_CLAIM)
    # `durable` refuses to run inside another transaction: the claim must be on disk before the call.
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        gates = gate.lock_due(cursor, most=CONFIGS_AT_ONCE)
        rooms = {}
        for one in gates:
            wanted = most.get(one.config_id, limit if most_of_others is None else most_of_others)
            room = min(wanted, one.room(is_reader=False))
            if room > 0 and one.is_probe:
                room = int(gate.may_probe(cursor, one))
            if room > 0:
                rooms[one.config_id] = room
        if not rooms:
            return []
        share = -(-limit // len(rooms))
        picked = [(one, min(rooms[one.config_id], share)) for one in gates if one.config_id in rooms][:limit]
        claims = _claim_due(cursor, picked, trigger)
        begun = {one.config_id: 0 for one, _ in picked}
        for claim in claims:
            begun[claim.provider_config_id] += 1
        for one, _ in picked:
            gate.note_begun(cursor, one, begun[one.config_id])
    if claims:
        moments.reached(moments.AFTER_CLAIM)
    return claims


def _claim_due(cursor: CursorWrapper, picked: list[tuple[Gate, int]], trigger: Trigger) -> list[Claim]:
    params = {
        "configs": [one.config_id for one, _ in picked],
        "rooms": [room for _, room in picked],
        "skips": [secrets.randbelow(PROBE_FROM) if one.is_probe else 0 for one, _ in picked],
        "probes": [one.is_probe for one, _ in picked],
        "most": sum(room for _, room in picked),
    }
    claims = _claim(cursor, _DUE, params, trigger)
    missed = {one.config_id for one, _ in picked if one.is_probe} - {
        claim.provider_config_id for claim in claims
    }
    if missed:
        # There were fewer than were to be passed over.
        params = {
            "configs": list(missed),
            "rooms": [1] * len(missed),
            "probes": [True] * len(missed),
            "skips": [0] * len(missed),
            "most": len(missed),
        }
        claims += _claim(cursor, _DUE, params, trigger)
    return claims


def claim_one(
    grant: Grant, *, trigger: Trigger, is_forced: bool = False, gen: int | None = None
) -> Claim | None:
    """Claim one grant, or return None if it is claimed, paused, not refreshable, or its catalog file is gone.

    None also where its configuration has no call to spare, or does not work and was tried a moment ago. `gen` is the
    generation that the caller saw: if it has moved on there is nothing to do. `is_forced` passes over all pauses and
    limits, never over a live claim, and lets a person try a grant that needs reconnecting.
    """
    if is_foreign():
        return None
    params = {
        "grant": grant.pk,
        "is_forced": is_forced,
        "gen": gen,
        "statuses": ["active", "needs_reconnect"] if is_forced else ["active"],
        # Without its catalog file nobody knows how to ask a provider.
        "known": list(catalog()),
    }
    moments.reached(moments.BEFORE_CLAIM)
    try:
        with transaction.atomic(durable=True), connection.cursor() as cursor:
            if is_forced:
                claims = _claim(cursor, _ONE, params, trigger)
            else:
                claims = _claim_in_turn(cursor, grant, params, trigger)
    except OperationalError as error:
        if isinstance(error.__cause__, LockNotAvailable):
            return None
        raise
    if claims:
        moments.reached(moments.AFTER_CLAIM)
    return claims[0] if claims else None


def _claim_in_turn(
    cursor: CursorWrapper, grant: Grant, params: dict[str, Any], trigger: Trigger
) -> list[Claim]:
    claims: list[Claim] = []
    for one in gate.lock_one(cursor, grant.provider_config_id):
        if one.room(is_reader=True) and (not one.is_probe or gate.may_probe(cursor, one)):
            claims = _claim(cursor, _ONE, params, trigger)
            if claims:
                gate.note_begun(cursor, one, 1)
    return claims


def _claim(cursor: CursorWrapper, picked: str, params: dict[str, Any], trigger: Trigger) -> list[Claim]:
    # The process is asked each time: Celery forks the one that works from one that has imported this already.
    params = {
        **params,
        "lease": LEASE,
        "trigger": trigger.value,
        "worker": f"{HOST}:{os.getpid()}",
        "strict": [name for name, spec in catalog().items() if spec.refresh.is_strict],
    }
    started = time.monotonic()
    cursor.execute(_CLAIM.format(picked=picked), params)
    send_before = started + LEASE_SLACK.total_seconds() / 2
    is_read = trigger.value == "reader"
    return [Claim(*[*row, send_before, is_read]) for row in cursor.fetchall()]
