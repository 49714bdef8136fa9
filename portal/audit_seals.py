"""Seal the audit log, so that whoever changes it behind the portal's back is found out (G3).

Events are not chained as they are written: hand-outs add them side by side, and none may wait for another. Housekeeping
seals them afterwards, one stretch of time after the other. A seal is the HMAC-SHA256 of the seal before it, the time
until which it reaches, and every event since the one before. `manage.py check_audit` computes them all again.

The key is random, made once, and stored encrypted with ENCRYPTION_KEYS: who can write to the database alone can't make
a seal, and rotating ENCRYPTION_KEYS encrypts it anew as everything else, so that old seals can still be checked.

What is sealed must be complete. An event bears the time of its statement or its transaction, which is never before the
transaction began; so nothing can come in any more before the oldest transaction that is open now.
"""

from __future__ import annotations

import base64
import hmac
import logging
import os
import time
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from django.db import connection, transaction
from psycopg import sql

from portal.encryption import UnreadableError, seal, unseal
from portal.models import AuditKey, AuditSeal

if TYPE_CHECKING:
    import datetime as dt

logger = logging.getLogger(__name__)

# At most so many events a seal: one is a transaction of a second.
MOST_EVENTS = 100_000
# For a clock that is set back a little, and for the moment between a transaction's beginning and its being seen.
MARGIN = timedelta(minutes=1)
LOCK_CLASS = 7_034
KEY_BYTES = 32

# Every column of an event. Whoever adds one makes a second version, and keeps this one for the seals that there are.
COLUMNS = (
    "id", "at", "application_id", "application_name", "event", "actor_kind", "actor_id", "actor_name", "ip_address",
    "subject_kind", "subject_id", "subject_name", "detail", "request_id",
)  # fmt: skip
VERSION = b"audit seal 1\n"
# Along the index by time. COPY's text says what is null, ends each event with the line's only line break, and comes in
# pieces; of all columns only a time looks different with other settings.
_EVENTS = sql.SQL(
    "COPY (SELECT {columns} FROM portal_auditevent WHERE at >= {since} AND at < {until} ORDER BY at, id) TO STDOUT"
)
_WRITTEN = sql.SQL(", ").join(
    sql.SQL("extract(epoch FROM at)" if column == "at" else column) for column in COLUMNS
)

# Other roles' transactions hide their beginning from a role that isn't a member of pg_read_all_stats, but not that they
# are open: everybody holds a lock on their own virtual transaction.
_QUIET = """
SELECT least(now() - %(margin)s::interval, min(a.xact_start)),
    coalesce(bool_or(a.query = '<insufficient privilege>' AND EXISTS (
        SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock')), false)
    OR NOT current_setting('track_activities')::boolean
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.usesysid IS NOT NULL AND a.pid <> pg_backend_pid()
"""
_FULL = """
SELECT at FROM portal_auditevent WHERE at >= %(since)s::timestamptz AND at < %(until)s ORDER BY at OFFSET %(most)s LIMIT 1
"""


class AuditKeyError(Exception):
    """The key of the seals is gone, or no key in ENCRYPTION_KEYS opens it."""


def seal_events(*, budget: timedelta = timedelta(minutes=1)) -> None:
    """Seal what can't change any more, in short transactions, for about so long. Ten machines at once do no harm.

    Raises AuditKeyError.
    """
    over = time.monotonic() + budget.total_seconds()
    while _seal_next() and time.monotonic() < over:
        pass


def digest_of(
    key: bytes, previous: bytes, since: dt.datetime | None, until: dt.datetime
) -> tuple[bytes, int]:
    """Return what a seal over the events of a stretch of time must be, and how many events there are."""
    written = until.astimezone(UTC).isoformat(timespec="microseconds").encode()
    mac = hmac.new(key, VERSION + previous + written, "sha256")
    events = 0
    statement = _EVENTS.format(
        columns=_WRITTEN, since=sql.Literal(since or "-infinity"), until=sql.Literal(until)
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for block in copy:
            mac.update(block)
            events += bytes(block).count(b"\n")
    return mac.digest(), events


def audit_key() -> bytes:
    """Return the key of the seals. Raises AuditKeyError."""
    row = AuditKey.objects.first()
    if row is None:
        raise AuditKeyError("The key of the audit log's seals is gone: the row of portal_auditkey.")
    try:
        return base64.b64decode(unseal(row, "key") or "")
    except UnreadableError:
        raise AuditKeyError(
            "No key in ENCRYPTION_KEYS opens the key of the audit log's seals, the row of portal_auditkey."
        ) from None


def _seal_next() -> bool:
    """Make one seal if there is something to seal, and tell whether there is more."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, 0)", [LOCK_CLASS])
        if not cursor.fetchone()[0]:  # Somebody else does it.
            return False
        previous = AuditSeal.objects.order_by("-id").first()
        since = previous.until if previous else None
        # Before the statement that reads the events: it must see what has ended by now.
        cursor.execute(_QUIET, {"margin": f"{MARGIN.total_seconds()} s"})
        row: tuple[dt.datetime, bool] = cursor.fetchone()
        quiet, is_hidden = row
        if is_hidden:
            logger.info("Not sealing audit events now: a transaction is open that hides when it began")
            return False
        if since and quiet <= since:
            return False
        if previous is None:
            _make_key()
        cursor.execute(_FULL, {"since": since or "-infinity", "until": quiet, "most": MOST_EVENTS})
        full: tuple[dt.datetime] | None = cursor.fetchone()
        # So many events of one moment have one seal.
        until = full[0] if full and full[0] != since else quiet
        digest, events = digest_of(audit_key(), bytes(previous.digest) if previous else b"", since, until)
        AuditSeal.objects.create(until=until, events=events, digest=digest)
    # Whoever takes the newest seals away with their events does not reach where logs are shipped to.
    logger.info("Sealed %d audit events until %s: %s", events, until.isoformat(), digest.hex())
    return until != quiet


def _make_key() -> None:
    """Make the key for the first seal. A key that is lost later is never replaced: somebody must see it."""
    if not AuditKey.objects.exists():
        row = AuditKey()
        seal(row, "key", base64.b64encode(os.urandom(KEY_BYTES)).decode())
        row.save(force_insert=True)
