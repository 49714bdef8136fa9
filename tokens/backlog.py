"""What is due, and what wants attention, by configuration: counted in small indexes, and only so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection

from tokens.gate import LEASE

if TYPE_CHECKING:
    import datetime as dt
    import uuid
    from collections.abc import Iterable

# Beyond this the exact number helps nobody.
MOST = 10_000

_DUE = "provider_config_id = c.id AND status = 'active' AND refresh_due_at <= statement_timestamp()"
_COUNTED = "(SELECT count(*) FROM (SELECT FROM tokens_grant WHERE {which} LIMIT %(most)s + 1) counted)"
_BACKLOG = f"""
SELECT c.id, clock_timestamp(),
    {_COUNTED.format(which=_DUE)},
    (SELECT min(refresh_due_at) FROM tokens_grant WHERE {_DUE}),
    {_COUNTED.format(which="application_id = c.application_id AND provider_config_id = c.id AND status = 'active' AND NOT (fail_outcome = '')")},
    {_COUNTED.format(which="application_id = c.application_id AND provider_config_id = c.id AND status = 'needs_reconnect'")},
    {_COUNTED.format(which="application_id = c.application_id AND provider_config_id = c.id AND status = 'pending'")},
    (SELECT count(*) FROM tokens_refreshattempt WHERE provider_config_id = c.id AND outcome = ''
        AND claimed_at > statement_timestamp() - %(lease)s),
    (SELECT clock_ahead_s FROM providers_providerhealth h WHERE h.provider_id = c.provider_id
        AND h.clock_seen_at > statement_timestamp() - interval '1 hour')
FROM providers_providerconfig c WHERE c.id = ANY(%(configs)s)
"""  # noqa: S608 - made of constants


@dataclass(frozen=True)
class Backlog:
    """How many connections of a configuration are due, and how many want somebody; more than MOST means many more."""

    now: dt.datetime
    due: int
    oldest_due_at: dt.datetime | None
    failing: int
    needs_reconnect: int
    pending: int
    # Calls to the provider.
    under_way: int
    # Seconds that the provider's clock is ahead of the database's, if they differed in the last hour.
    clock_ahead_s: float | None = None

    @property
    def oldest(self) -> dt.timedelta | None:
        """Return for how long the oldest has been due; None if nothing is."""
        return self.now - self.oldest_due_at if self.oldest_due_at else None

    @property
    def due_words(self) -> str:
        """Return how many are due, in words."""
        return number(self.due)

    @property
    def attention(self) -> int:
        """Return how many want somebody."""
        return self.failing + self.needs_reconnect + self.pending

    @property
    def attention_words(self) -> str:
        """Return how many want somebody, in words."""
        return number(self.attention)


def number(count: int) -> str:
    """Write a count that may have stopped at MOST."""
    return f"{MOST:,}+" if count > MOST else f"{count:,}"


def of(configs: Iterable[uuid.UUID]) -> dict[uuid.UUID, Backlog]:
    """Return the backlog of each configuration, in one statement."""
    params: dict[str, Any] = {"configs": list(configs), "most": MOST, "lease": LEASE}
    with connection.cursor() as cursor:
        cursor.execute(_BACKLOG, params)
        return {pk: Backlog(*rest) for pk, *rest in cursor.fetchall()}


def added(backlogs: Iterable[Backlog], now: dt.datetime) -> Backlog:
    """Return several as one."""
    all_of_them = list(backlogs)
    return Backlog(
        now=now,
        due=sum(one.due for one in all_of_them),
        oldest_due_at=min((one.oldest_due_at for one in all_of_them if one.oldest_due_at), default=None),
        failing=sum(one.failing for one in all_of_them),
        needs_reconnect=sum(one.needs_reconnect for one in all_of_them),
        pending=sum(one.pending for one in all_of_them),
        under_way=sum(one.under_way for one in all_of_them),
    )
