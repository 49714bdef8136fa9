"""Claim messages that are due: the one statement that decides who sends what, and when it may be sent.

A claim is durable before any call, and with it the row of the attempt. If its worker dies, it runs out and somebody
else sends the message again: at least once. Of one grant only the earliest message that waits is ever claimed, so an
endpoint hears of it in order.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction

from portal.instance import is_foreign
from portal.models import WebhookEndpoint
from portal.models.webhooks import FAILING_AFTER

if TYPE_CHECKING:
    import datetime as dt
    import uuid

# One endpoint gets this long for its answer (F5), from name look-up to the last byte.
TIMEOUT = timedelta(seconds=20)
LEASE_SLACK = timedelta(seconds=40)
LEASE = TIMEOUT + LEASE_SLACK
# Whoever delivers looks for new messages twice a second; one that waits longer has been missed.
LATE = timedelta(seconds=2)
# So many messages are under way to one endpoint at a time; a slow one holds up nobody but itself.
MOST_AT_ONE_ENDPOINT = 10


@dataclass(frozen=True)
class Claim:
    """A claimed message with its endpoint. The body is not in its repr."""

    message_id: int
    uid: uuid.UUID
    number: int
    started_at: dt.datetime
    body: str = field(repr=False)
    endpoint: WebhookEndpoint
    # Monotonic seconds of this process: after this moment the claim must not be used to send.
    send_before: float


# statement_timestamp() and not clock_timestamp(): only what is the same for a whole statement is looked up in an index.
# Every endpoint with something due gets the same share, and none more than it has room for. Claimed messages stand in
# the due index between now and the end of the lease, so that counting them costs nothing however many wait.
_CLAIM = """
WITH ready AS MATERIALIZED (
    SELECT e.id, e.url, count(*) OVER () AS sharers,
        CASE WHEN e.misses_in_a_row < %(failing)s THEN %(most)s ELSE 1 END - busy.number AS room
    FROM portal_webhookendpoint e
    CROSS JOIN LATERAL (
        SELECT count(*) AS number FROM portal_webhookmessage
        WHERE endpoint_id = e.id AND status = 'pending' AND claim_until IS NOT NULL
            AND next_attempt_at > statement_timestamp() AND next_attempt_at <= statement_timestamp() + %(lease)s
    ) busy
    WHERE e.disabled_at IS NULL AND (e.paused_until IS NULL OR e.paused_until <= statement_timestamp())
        AND EXISTS (
            SELECT FROM portal_webhookmessage
            WHERE endpoint_id = e.id AND status = 'pending' AND next_attempt_at <= statement_timestamp()
        )
),
picked AS (
    SELECT m.id, r.url, m.next_attempt_at
    FROM ready r
    CROSS JOIN LATERAL (
        SELECT id, next_attempt_at FROM portal_webhookmessage due
        WHERE endpoint_id = r.id AND status = 'pending' AND next_attempt_at <= statement_timestamp()
            AND NOT EXISTS (
                SELECT FROM portal_webhookmessage earlier
                WHERE earlier.endpoint_id = due.endpoint_id AND earlier.subject_id = due.subject_id
                    AND earlier.status = 'pending' AND earlier.id < due.id
            )
        ORDER BY next_attempt_at, id
        LIMIT greatest(0, least(r.room, (%(limit)s + r.sharers - 1) / r.sharers))
        FOR UPDATE SKIP LOCKED
    ) m
    ORDER BY m.next_attempt_at
    LIMIT %(limit)s
),
claimed AS (
    UPDATE portal_webhookmessage m
    SET tries = m.tries + 1, claim_until = statement_timestamp() + %(lease)s, next_attempt_at = statement_timestamp() + %(lease)s
    FROM picked WHERE m.id = picked.id
    RETURNING m.id, m.uid, m.tries, statement_timestamp() AS started_at, m.body, m.endpoint_id, picked.url
),
journal AS (
    INSERT INTO portal_webhookattempt (message_id, number, started_at, url)
    SELECT id, tries, started_at, url FROM claimed
)
SELECT id, uid, tries, started_at, body, endpoint_id FROM claimed ORDER BY id
"""

# Among the endpoints, since the index begins with them.
_ELSEWHERE = """
SELECT count(*) FILTER (WHERE is_claimed) > 0 AND count(*) FILTER (WHERE is_late) = 0
FROM portal_webhookendpoint e
CROSS JOIN LATERAL (
    SELECT EXISTS (
        SELECT FROM portal_webhookmessage
        WHERE endpoint_id = e.id AND status = 'pending' AND claim_until IS NOT NULL
            AND next_attempt_at > statement_timestamp() AND next_attempt_at <= statement_timestamp() + %(lease)s
    ) AS is_claimed, EXISTS (
        SELECT FROM portal_webhookmessage
        WHERE endpoint_id = e.id AND status = 'pending' AND next_attempt_at <= statement_timestamp() - %(late)s
    ) AS is_late
) m
WHERE e.disabled_at IS NULL
"""


def is_delivered_elsewhere() -> bool:
    """Tell whether another worker is at it and misses nothing: then there is no need to keep a second one from its work.

    One that has calls under way looks for new messages all the time, so none of them waits for long.
    """
    values: dict[str, Any] = {"lease": LEASE, "late": LATE}
    with connection.cursor() as cursor:
        cursor.execute(_ELSEWHERE, values)
        return bool(cursor.fetchone()[0])


def claim_due(*, limit: int) -> list[Claim]:
    """Claim up to `limit` messages whose time has come, durable on return; nothing in a copied database."""
    if is_foreign():
        return []
    started = time.monotonic()
    values: dict[str, Any] = {
        "limit": limit,
        "lease": LEASE,
        "most": MOST_AT_ONE_ENDPOINT,
        "failing": FAILING_AFTER,
    }
    # `durable` refuses to run inside another transaction: the claim must be on disk before the call.
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        cursor.execute(_CLAIM, values)
        rows = cursor.fetchall()
    if not rows:
        return []
    endpoints = WebhookEndpoint.objects.in_bulk({endpoint_id for *_, endpoint_id in rows})
    send_before = started + LEASE_SLACK.total_seconds() / 2
    return [
        Claim(pk, uid, number, started_at, body, endpoints[endpoint_id], send_before)
        for pk, uid, number, started_at, body, endpoint_id in rows
        # One that was deleted since has taken its messages along.
        if endpoint_id in endpoints
    ]
