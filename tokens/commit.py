"""Commit what refreshes came to: each only where the generation is still the one that was spent.

No caller sees a token before this commit. What the provider did is applied by generation, not by claim: an answer
that arrives after its claim ran out is as good as any, and one for a generation that has moved on changes nothing.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from django.db import InterfaceError, InternalError, OperationalError, connection, transaction

from providers.oauth import Failure, TokenSet
from providers.spec import Outcome
from tokens import guard, moments
from tokens.accept import accept
from tokens.breaker import note_health
from tokens.clock import database_now
from tokens.counts import count
from tokens.raw import raw_cursor
from tokens.verdict import apply_failure, apply_unreadable

if TYPE_CHECKING:
    import uuid
    from datetime import timedelta

    from tokens.results import Committed, Result

logger = logging.getLogger(__name__)

_CLOSE = """
UPDATE tokens_refreshattempt r
SET sent_at = clock_timestamp() - a.sent * interval '1 second',
    answered_at = clock_timestamp() - a.answered * interval '1 second', committed_at = clock_timestamp(),
    outcome = a.outcome, http_status = a.status, error_code = a.error, cause = a.cause
FROM unnest(%(ids)s::uuid[], %(epochs)s::int[], %(sents)s::float8[], %(answers)s::float8[], %(outcomes)s::text[],
    %(statuses)s::int[], %(errors)s::text[], %(causes)s::text[])
    AS a (id, epoch, sent, answered, outcome, status, error, cause)
WHERE r.grant_id = a.id AND r.epoch = a.epoch
"""


def commit(results: list[Result]) -> dict[uuid.UUID, Committed]:
    """Apply results in one short transaction, and return what became of each grant's."""
    # One order for everybody, so that two workers' groups can't wait for each other.
    ordered = sorted(results, key=lambda result: result.claim.grant_id)
    moments.reached(moments.BEFORE_COMMIT)
    with transaction.atomic(durable=True):
        guard.take_turn(ordered)
        accepted = accept(ordered)
        done = accepted.done
        for result in ordered:
            if isinstance(result.came_to, Failure):
                done[result.claim.grant_id] = apply_failure(result, result.came_to, database_now())
            elif not isinstance(result.came_to, TokenSet):
                done[result.claim.grant_id] = apply_unreadable(result, database_now())
        others = [result for result in ordered if done[result.claim.grant_id].outcome != Outcome.OK]
        if others:
            _close_attempts(others, done)
            count(others, done)
        was_ill = any(result.claim.config_problem or result.claim.was_refused for result in ordered)
        if others or was_ill or accepted.is_ill_noted:
            note_health(ordered, done)
    moments.reached(moments.AFTER_COMMIT)
    return done


def commit_held(results: list[Result], *, hold: timedelta) -> dict[uuid.UUID, Committed]:
    """Commit; while the database is gone, hold the answers in memory and try again: they can't be had twice.

    An InternalError is what it says when it has ended the session of a process that was stopped in the middle. Raises
    Django's OperationalError, InterfaceError or InternalError if it is not back after `hold`.
    """
    give_up = time.monotonic() + hold.total_seconds()
    pause = 0.1
    while True:
        try:
            return commit(results)
        except (OperationalError, InterfaceError, InternalError):
            if time.monotonic() > give_up:
                raise
            logger.warning("The database is gone; holding %d answers and trying again.", len(results))
            connection.close()
            time.sleep(pause)
            pause = min(pause * 2, 5)


def _close_attempts(results: list[Result], done: dict[uuid.UUID, Committed]) -> None:
    """Complete the journal's rows of what was not accepted, in one statement."""
    now = time.monotonic()

    def ago(moment: float | None) -> float | None:
        return None if moment is None else now - moment

    rows = [(result, done[result.claim.grant_id]) for result in results]
    with raw_cursor() as cursor:
        cursor.execute(
            _CLOSE,
            {
                "ids": [result.claim.grant_id for result, _ in rows],
                "epochs": [result.claim.epoch for result, _ in rows],
                "sents": [ago(result.sent) for result, _ in rows],
                "answers": [ago(result.answered) for result, _ in rows],
                "outcomes": [str(committed.outcome) for _, committed in rows],
                "statuses": [committed.http_status for _, committed in rows],
                "errors": [committed.error_code[:64] for _, committed in rows],
                "causes": [committed.cause[:200] for _, committed in rows],
            },
        )
