"""Claim grants: the one statement that decides who refreshes what.

A claim is a durable note, committed before any call: this owner may spend this generation's refresh token until
`claim_until`, and an answer may be in flight from now on. The journal's row is written with it. Whoever gets no row
back must not call the provider.
"""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction

from portal.instance import is_foreign
from providers.catalog_loader import catalog
from providers.models import STOPPING_PROBLEMS
from providers.spec import LONGEST_READ

if TYPE_CHECKING:
    import datetime as dt
    import uuid

    from tokens.models import Grant, Trigger

# How much longer than a provider's read deadline a claim lives: connecting, queueing and committing.
LEASE_SLACK = timedelta(seconds=25)
LEASE = LONGEST_READ + LEASE_SLACK
WORKER = f"{socket.gethostname()}:{os.getpid()}"


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
    config_problem: str
    refresh_token: bytes | None = field(repr=False)
    # Monotonic seconds of this process: after this moment the claim must not be used to send.
    send_before: float


_CLAIM = """
WITH picked AS ({picked}),
claimed AS (
    UPDATE tokens_grant g
    SET claim_owner = gen_random_uuid(), claim_epoch = g.claim_epoch + 1, claim_until = clock_timestamp() + %(lease)s,
        inflight_gen = g.gen, inflight_since = coalesce(g.inflight_since, clock_timestamp())
    FROM picked p WHERE g.id = p.id
    RETURNING g.id, g.application_id, g.provider_config_id, g.gen, g.claim_epoch, p.inflight_since, p.problem_code
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

# Every configuration with something due gets the same share, in due order, so that one application's thousands do not
# stand before another's one. A configuration that the provider refuses is asked with a single grant at a time.
_DUE = """
    SELECT g.id, g.inflight_since, c.problem_code
    FROM (
        SELECT c.id, c.problem_code, count(*) OVER () AS sharers
        FROM providers_providerconfig c
        JOIN portal_application a ON a.id = c.application_id AND a.archived_at IS NULL
        WHERE c.is_enabled AND c.provider_id = ANY(%(known)s)
            AND (c.paused_until IS NULL OR c.paused_until <= clock_timestamp())
            AND (c.problem_code <> ALL(%(stopping)s) OR %(probes)s > 0) AND EXISTS (
            SELECT FROM tokens_grant
            WHERE provider_config_id = c.id AND status = 'active' AND refresh_due_at <= clock_timestamp()
                AND (claim_until IS NULL OR claim_until <= clock_timestamp())
        )
    ) c
    CROSS JOIN LATERAL (
        SELECT id, inflight_since FROM tokens_grant
        WHERE provider_config_id = c.id AND status = 'active' AND refresh_due_at <= clock_timestamp()
            AND (claim_until IS NULL OR claim_until <= clock_timestamp())
        ORDER BY refresh_due_at
        LIMIT CASE WHEN c.problem_code <> ALL(%(stopping)s) THEN (%(limit)s + c.sharers - 1) / c.sharers ELSE %(probes)s END
        FOR UPDATE SKIP LOCKED
    ) g
    LIMIT %(limit)s
"""

_ONE = """
    SELECT g.id, g.inflight_since, c.problem_code
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


def claim_due(*, limit: int, trigger: Trigger, probes: int = 1) -> list[Claim]:
    """Claim up to `limit` grants whose refresh is due, shared between configurations; `probes` of each failing one.

    Durable on return. Any number of workers may call this at once; no grant is claimed twice.
    """
    return _claim(_DUE, {"limit": limit, "probes": probes, "stopping": list(STOPPING_PROBLEMS)}, trigger)


def claim_one(
    grant: Grant, *, trigger: Trigger, is_forced: bool = False, gen: int | None = None
) -> Claim | None:
    """Claim one grant, or return None if it is claimed, paused, not refreshable, or its catalog file is gone.

    `gen` is the generation that the caller saw: if it has moved on there is nothing to do. `is_forced` passes over
    the pauses after a failure, never over a live claim, and lets a person try a grant that needs reconnecting.
    """
    statuses = ["active", "needs_reconnect"] if is_forced else ["active"]
    found = _claim(
        _ONE, {"grant": grant.pk, "is_forced": is_forced, "gen": gen, "statuses": statuses}, trigger
    )
    return found[0] if found else None


def _claim(picked: str, params: dict[str, Any], trigger: Trigger) -> list[Claim]:
    if is_foreign():
        return []
    # Without its catalog file nobody knows how to ask a provider.
    params = {
        **params,
        "known": list(catalog()),
        "lease": LEASE,
        "trigger": trigger.value,
        "worker": WORKER[:100],
    }
    started = time.monotonic()
    # `durable` refuses to run inside another transaction: the claim must be on disk before the call.
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(_CLAIM.format(picked=picked), params)
        rows = cursor.fetchall()
    send_before = started + LEASE_SLACK.total_seconds() / 2
    return [Claim(*[*row, send_before]) for row in rows]
