"""How many calls a configuration may begin now: its limits, its pause, and its breaker, all held in the database.

Whoever claims for a configuration holds its lock until the claim is committed, so workers and readers on any number
of machines count the same calls. The lock is an advisory one: it writes nothing, and it ends with the transaction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import connection

from portal.instance import is_foreign
from providers.catalog_loader import catalog
from providers.models import STOPPING_PROBLEMS, ProviderHealth
from providers.spec import LONGEST_READ

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from django.db.backends.utils import CursorWrapper

    from providers.models import ProviderConfig

# How much longer than a provider's read deadline a claim lives: connecting, queueing and committing.
LEASE_SLACK = timedelta(seconds=25)
LEASE = LONGEST_READ + LEASE_SLACK
# What is down is tried with one call so often, by whoever comes first: a worker or a reader.
PROBE_EVERY = timedelta(seconds=10)
# So many refusals in a row, with no success between them, are not the grants' own while endings are held.
REFUSALS_STOP = 5
# A configuration that was quiet may begin so many seconds' worth of its calls at once; a reader that much ahead.
BURST_SECONDS = 0.5
# Workers leave one slot in so many to readers: somebody is waiting there.
READERS_SHARE = 10
# The class of our advisory locks; a lock is this and the hash of a configuration's id.
LOCK_CLASS = 7_031
# How long a reader waits for its turn to claim, in milliseconds.
LOCK_WAIT_MS = 2000
# A claim takes milliseconds. Of a process that is stopped in the middle of one, the database ends the session after so
# many, and with it the lock.
STALL_MS = 5000

# Configurations with something due, longest overdue first, as far as nobody else claims for them just now.
_LOCK_DUE = """
WITH waiting AS MATERIALIZED (
    SELECT c.id
    FROM providers_providerconfig c
    JOIN portal_application a ON a.id = c.application_id AND a.archived_at IS NULL
    CROSS JOIN LATERAL (
        SELECT refresh_due_at FROM tokens_grant
        WHERE provider_config_id = c.id AND status = 'active' AND refresh_due_at <= statement_timestamp()
            AND (claim_until IS NULL OR claim_until <= statement_timestamp())
        ORDER BY refresh_due_at LIMIT 1
    ) due
    WHERE c.is_enabled AND c.provider_id = ANY(%(known)s)
        AND (c.paused_until IS NULL OR c.paused_until <= statement_timestamp())
    ORDER BY due.refresh_due_at LIMIT %(most)s
)
SELECT id, set_config('idle_in_transaction_session_timeout', %(stall)s, true)
FROM waiting WHERE pg_try_advisory_xact_lock(%(class)s, hashtext(id::text))
"""

_LOCK_ONE = """
SELECT set_config('lock_timeout', %(wait)s, true), set_config('idle_in_transaction_session_timeout', %(stall)s, true), pg_advisory_xact_lock(%(class)s, hashtext(%(config)s))
"""

# Calls under way are those whose attempt has no outcome yet; what a killed worker left behind counts until its claim
# would have run out.
_FACTS = """
SELECT c.id, c.provider_id, c.max_parallel, c.max_per_second,
    (SELECT count(*) FROM tokens_refreshattempt r WHERE r.provider_config_id = c.id AND r.outcome = ''
        AND r.claimed_at > statement_timestamp() - %(lease)s),
    extract(epoch FROM statement_timestamp() - c.paced_until)::float8,
    c.problem_code = ANY(%(stopping)s)
        OR (c.endings_held_since IS NOT NULL AND c.refused_in_a_row >= %(refusals)s),
    h.opened_at IS NOT NULL,
    c.probed_at IS NULL OR c.probed_at <= statement_timestamp() - %(every)s
FROM providers_providerconfig c LEFT JOIN providers_providerhealth h ON h.provider_id = c.provider_id
WHERE c.id = ANY(%(configs)s)
"""

# What a claim will write, before the provider's row: in the order in which commits lock both (tokens/breaker.py).
_LOCK_ROWS = (
    "SELECT id FROM providers_providerconfig WHERE id = ANY(%(configs)s) ORDER BY id FOR NO KEY UPDATE"
)

_PROBE_PROVIDER = """
UPDATE providers_providerhealth SET probed_at = statement_timestamp()
WHERE provider_id = %(provider)s AND (probed_at IS NULL OR probed_at <= statement_timestamp() - %(every)s)
"""

_NOTE_BEGUN = """
UPDATE providers_providerconfig
SET paced_until = CASE WHEN %(rate)s = 0 THEN paced_until ELSE
        greatest(paced_until, statement_timestamp() - %(burst)s) + %(begun)s * (interval '1 second' / nullif(%(rate)s, 0)) END,
    probed_at = CASE WHEN %(is_probe)s THEN statement_timestamp() ELSE probed_at END
WHERE id = %(config)s
"""


# Something is due that only limits or another worker's claim hold back: not a pause, and no breaker.
_HELD_BACK = """
SELECT EXISTS (
    SELECT FROM providers_providerconfig c
    JOIN portal_application a ON a.id = c.application_id AND a.archived_at IS NULL
    LEFT JOIN providers_providerhealth h ON h.provider_id = c.provider_id
    WHERE c.is_enabled AND c.provider_id = ANY(%(known)s) AND h.opened_at IS NULL
        AND (c.paused_until IS NULL OR c.paused_until <= statement_timestamp())
        AND c.problem_code <> ALL(%(stopping)s)
        AND (c.endings_held_since IS NULL OR c.refused_in_a_row < %(refusals)s)
        AND EXISTS (
            SELECT FROM tokens_grant
            WHERE provider_config_id = c.id AND status = 'active' AND refresh_due_at <= statement_timestamp()
                AND (claim_until IS NULL OR claim_until <= statement_timestamp())
        )
)
"""


@dataclass(frozen=True)
class Gate:
    """How a locked configuration stands at this moment."""

    config_id: uuid.UUID
    provider_id: str
    parallel: int
    per_second: int
    under_way: int
    # Seconds since the calls that were begun had used up the budget; negative while they still do.
    idle_seconds: float
    is_stopped: bool
    is_provider_down: bool
    is_probe_due: bool

    @property
    def is_probe(self) -> bool:
        """Tell whether it does not work, so that only one call at a time finds out whether it does again."""
        return self.is_stopped or self.is_provider_down

    @property
    def is_written(self) -> bool:
        """Tell whether a claim writes anything down about it."""
        return bool(self.per_second) or self.is_probe

    @property
    def burst(self) -> float:
        """Return for how many seconds unused budget is kept: at least for one call."""
        return max(BURST_SECONDS, 1 / self.per_second) if self.per_second else 0.0

    def room(self, *, is_reader: bool) -> int:
        """Return how many calls may begin now; the breaker is not asked here."""
        reserve = 0 if is_reader else self.parallel // READERS_SHARE
        room = self.parallel - reserve - self.under_way
        if self.per_second:
            seconds = min(self.idle_seconds, self.burst) + (BURST_SECONDS if is_reader else 0.0)
            # The hundred-millionth is for what is lost in dividing.
            room = min(room, math.floor(seconds * self.per_second + 1e-8))
        return max(0, room)


def lock_due(cursor: CursorWrapper, *, most: int) -> list[Gate]:
    """Lock configurations that have something due, and return how they stand; what others lock is passed over."""
    params: dict[str, Any] = {
        "known": list(catalog()),
        "most": most,
        "class": LOCK_CLASS,
        "stall": f"{STALL_MS}ms",
    }
    cursor.execute(_LOCK_DUE, params)
    return _gates(cursor, [config_id for config_id, _ in cursor.fetchall()], may_wait=False)


def lock_one(cursor: CursorWrapper, config_id: uuid.UUID) -> list[Gate]:
    """Wait for one configuration's lock and return how it stands; nothing if it is gone. Raises OperationalError."""
    params: dict[str, Any] = {
        "class": LOCK_CLASS,
        "config": str(config_id),
        "wait": f"{LOCK_WAIT_MS}ms",
        "stall": f"{STALL_MS}ms",
    }
    cursor.execute(_LOCK_ONE, params)
    return _gates(cursor, [config_id], may_wait=True)


def _gates(cursor: CursorWrapper, configs: Sequence[uuid.UUID], *, may_wait: bool) -> list[Gate]:
    # A statement of its own: it must see what was committed before the locks were had.
    if not configs:
        return []
    params: dict[str, Any] = {
        "configs": list(configs),
        "lease": LEASE,
        "stopping": list(STOPPING_PROBLEMS),
        "refusals": REFUSALS_STOP,
        "every": PROBE_EVERY,
    }
    cursor.execute(_FACTS, params)
    gates = [_gate(*row) for row in cursor.fetchall()]
    written = [gate.config_id for gate in gates if gate.is_written]
    if not written:
        return gates
    cursor.execute(_LOCK_ROWS + ("" if may_wait else " SKIP LOCKED"), {"configs": written})
    locked = {config_id for (config_id,) in cursor.fetchall()}
    return [gate for gate in gates if not gate.is_written or gate.config_id in locked]


def _gate(
    config_id: uuid.UUID,
    provider_id: str,
    parallel: int | None,
    per_second: int | None,
    under_way: int,
    idle_seconds: float | None,
    *flags: bool,
) -> Gate:
    limits = catalog()[provider_id].limits if provider_id in catalog() else None
    return Gate(
        config_id,
        provider_id,
        parallel or (limits.parallel if limits else 0),
        per_second or (limits.per_second if limits else 0),
        under_way,
        math.inf if idle_seconds is None else idle_seconds,
        *flags,
    )


def may_probe(cursor: CursorWrapper, gate: Gate) -> bool:
    """Tell whether a configuration that does not work may be tried now, and take the provider's turn if it needs one."""
    if not gate.is_probe_due:
        return False
    if gate.is_provider_down:
        params: dict[str, Any] = {"provider": gate.provider_id, "every": PROBE_EVERY}
        cursor.execute(_PROBE_PROVIDER, params)
        return bool(cursor.rowcount)
    return True


def note_begun(cursor: CursorWrapper, gate: Gate, begun: int) -> None:
    """Take calls that are begun out of the budget, and write down when a probe was."""
    if gate.is_written:
        params: dict[str, Any] = {
            "config": gate.config_id,
            "rate": gate.per_second,
            "burst": timedelta(seconds=gate.burst),
            "begun": begun,
            "is_probe": gate.is_probe,
        }
        cursor.execute(_NOTE_BEGUN, params)


def is_held_back() -> bool:
    """Tell whether something is due that may be claimed in a moment, when limits or another worker let it."""
    if is_foreign():
        return False
    params: dict[str, Any] = {
        "known": list(catalog()),
        "stopping": list(STOPPING_PROBLEMS),
        "refusals": REFUSALS_STOP,
    }
    with connection.cursor() as cursor:
        cursor.execute(_HELD_BACK, params)
        (is_held,) = cursor.fetchone()
    return bool(is_held)


def is_stopped(config: ProviderConfig) -> bool:
    """Tell whether a configuration, or its whole provider, does not work, so that it is only probed."""
    if config.problem_code in STOPPING_PROBLEMS:
        return True
    if config.endings_held_since is not None and config.refused_in_a_row >= REFUSALS_STOP:
        return True
    return ProviderHealth.objects.filter(provider_id=config.provider_id, opened_at__isnull=False).exists()
