"""Set the due times of a configuration's grants anew, in batches: a hundred thousand must make nobody wait.

Whoever changes what they follow from sets `replan_since`; the next tick does it, and takes the mark away.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import connection
from django.db.models import Q

from providers.catalog_loader import catalog
from providers.models import ProviderConfig
from providers.spec import Outcome
from tokens import schedule
from tokens.clock import database_now
from tokens.models import Grant, GrantStatus
from tokens.store import due_at

if TYPE_CHECKING:
    import datetime as dt
    import uuid
    from collections.abc import Iterator

    from django.db.models import QuerySet

BATCH = 2000
# What was refused and may be tried again is spread over so long.
SPREAD = timedelta(seconds=60)

# The class of these advisory locks; a lock is this and the hash of a configuration's id.
LOCK_CLASS = 7_033
# Of a process that is stopped in the middle, the database ends the session after so long, and with it the lock.
STALL = timedelta(seconds=60)
_LOCK = """
SELECT pg_try_advisory_lock(%(class)s, hashtext(%(config)s)), set_config('idle_session_timeout', %(stall)s, false)
"""
_UNLOCK = "SELECT pg_advisory_unlock(%(class)s, hashtext(%(config)s))"

# Only where nothing has happened to it meanwhile. Rows are locked in one order for everybody.
_PLAN = """
WITH locked AS MATERIALIZED (
    SELECT id FROM tokens_grant WHERE id = ANY(%(ids)s::uuid[]) ORDER BY id FOR UPDATE
)
UPDATE tokens_grant g SET refresh_due_at = p.due_at, next_attempt_at = NULL
FROM unnest(%(ids)s::uuid[], %(gens)s::int[], %(dues)s::timestamptz[]) AS p (id, gen, due_at) JOIN locked USING (id)
WHERE g.id = p.id AND g.gen = p.gen AND g.status = 'active' AND g.claim_owner IS NULL
"""


def replan_all() -> None:
    """Do it for every configuration that waits for it, and that no other worker is at just now."""
    waiting = ProviderConfig.objects.filter(replan_since__isnull=False, provider_id__in=list(catalog()))
    for pk in list(waiting.values_list("pk", flat=True)):
        with _alone(pk) as is_mine:
            # Read under the lock: who had it before may be done.
            config = waiting.filter(pk=pk).first() if is_mine else None
            if config is None:
                continue
            _replan(config)
            # If it was asked for again meanwhile, the mark has moved and stays.
            ProviderConfig.objects.filter(pk=config.pk, replan_since=config.replan_since).update(
                replan_since=None
            )


@contextmanager
def _alone(pk: uuid.UUID) -> Iterator[bool]:
    """Tell whether nobody else is at a configuration, and keep others from it; a worker that dies lets go of it."""
    values: dict[str, Any] = {
        "class": LOCK_CLASS,
        "config": str(pk),
        "stall": f"{STALL.total_seconds():.0f}s",
    }
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, values)
        is_mine: bool = cursor.fetchone()[0]
    try:
        yield is_mine
    finally:
        with connection.cursor() as cursor:
            if is_mine:
                cursor.execute(_UNLOCK, values)
            cursor.execute("RESET idle_session_timeout")


def _replan(config: ProviderConfig) -> None:
    # Along the unique index of live grants.
    grants = (
        Grant.objects.filter(provider_config=config)
        .exclude(status=GrantStatus.REVOKED)
        .order_by("end_user", "account_id")
        .only(
            "end_user", "account_id", "gen", "status", "fail_outcome", "access_expires_at", "refreshed_at",
            "refresh_due_at", "used_at", "consented_at", "idle_deadline",
        )
    )  # fmt: skip
    after: tuple[str, str] | None = None
    while True:
        batch = list(_behind(grants, after)[:BATCH])
        if not batch:
            return
        now = database_now()
        plans: list[tuple[uuid.UUID, int, dt.datetime | None]] = []
        for grant in batch:
            grant.provider_config = config
            if grant.status == GrantStatus.ACTIVE and grant.fail_outcome in ("", Outcome.GRANT_DEAD):
                due = (
                    due_at(grant, now) if not grant.fail_outcome else now + schedule.jitter(grant.pk, SPREAD)
                )
                plans.append((grant.pk, grant.gen, due))
        with connection.cursor() as cursor:
            ids, gens, dues = (list(column) for column in zip(*plans, strict=True)) if plans else ([], [], [])
            cursor.execute(_PLAN, {"ids": ids, "gens": gens, "dues": dues})
        after = (batch[-1].end_user, batch[-1].account_id)


def _behind(grants: QuerySet[Grant], after: tuple[str, str] | None) -> QuerySet[Grant]:
    if after is None:
        return grants
    end_user, account_id = after
    # The first condition is what the index is entered by.
    return grants.filter(end_user__gte=end_user).filter(
        Q(end_user__gt=end_user) | Q(account_id__gt=account_id)
    )
