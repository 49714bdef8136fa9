"""Faults of our own machines at each of the six moments of a refresh."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from django.db import connection

from bench.faults import clock
from bench.faults.catalog import READ_TIMEOUT_S
from bench.faults.judge import calls_of
from bench.faults.recovery import database_is_back
from bench.faults.stage import wait_until
from bench.faults.world import new_cell, put_away
from tokens import moments

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.faults.recovery import Patience
    from bench.faults.world import Cell

# How long the sandbox keeps an answer, so that there is time to do something in the meantime.
DELAY_MS = READ_TIMEOUT_S * 1000 * 3 // 4
KILL = "kill -9 of the worker"
STOP = "SIGSTOP beyond the claim, then SIGCONT"
DATABASE = "PostgreSQL stopped (immediate) and started"
BROKER = "broker flushed, killed and started"
FORWARD = "database clock + 1 h"
SENT = "sent, before the provider's commit"
PROVIDER_COMMITTED = "after the provider's commit"
READ = "answer read, before our commit"
COMMITTED = "after our commit"
MOMENTS = {
    "before the claim": moments.BEFORE_CLAIM,
    "claimed, not sent": moments.AFTER_CLAIM,
    SENT: "",
    PROVIDER_COMMITTED: "",
    READ: moments.BEFORE_COMMIT,
    COMMITTED: moments.AFTER_COMMIT,
}


def run_at(patience: Patience, fault: str, at: str, *, grants: int, provider: str = "quick") -> Cell:
    """Bring a worker to the moment, let the fault happen, let the system recover, and judge."""
    cell = new_cell(patience.stage.sandbox, fault, at, grants=grants, provider=provider)
    # Nor can a client know that an access token has not run out when the clock that decides says so.
    is_helpless = fault in (KILL, FORWARD) and at in (SENT, PROVIDER_COMMITTED, READ)
    cell.may_lose = cell.is_strict and is_helpless
    pid = _bring_to(patience, cell, at)
    cell.began = patience.now()
    undo = FAULTS[fault](patience, cell, at, pid)
    patience.recover([cell])
    if undo is not None:
        patience.settle()
        # Before their next refresh is due by the clock as it was.
        put_away(cell)
        undo()
    patience.judge([cell])
    patience.stage.sandbox.clear_faults()
    return cell


def _bring_to(patience: Patience, cell: Cell, at: str) -> int:
    """Return the process that stands at the moment with the cell's grants."""
    from tokens.models import Grant

    stage = patience.stage
    if MOMENTS[at]:
        stage.arm(MOMENTS[at])
        stage.propose()
        pid = wait_until(lambda: stage.held(MOMENTS[at]), what=f"a worker at {at!r}")
        # A worker commits what has arrived: the first group need not hold all of them.
        while at == COMMITTED and Grant.objects.filter(pk__in=cell.grants, gen=0).exists():
            stage.hold_again(MOMENTS[at])
            pid = wait_until(lambda: stage.held(MOMENTS[at]), what=f"a worker at {at!r}")
        return pid  # type: ignore[no-any-return]
    stage.sandbox.fault(
        "latency",
        client_id=cell.client_id,
        times=len(cell.grants),
        ms=DELAY_MS,
        after=at == PROVIDER_COMMITTED,
    )
    stage.propose()

    def has_come() -> bool:
        if at == SENT:
            calls = stage.sandbox.ledger("/oauth/token", since=cell.first_call)
            return any(call["fault"] == "latency" for call in calls)
        return any(call["committed"] for call in calls_of(cell, stage.sandbox))

    wait_until(has_come, what=f"a call {at!r}")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT worker FROM tokens_refreshattempt WHERE grant_id = ANY(%s) ORDER BY id DESC LIMIT 1",
            [cell.grants],
        )
        (worker,) = cursor.fetchone()
    return int(worker.rpartition(":")[2])


def _kill(patience: Patience, cell: Cell, at: str, pid: int) -> None:
    """Kill -9 the worker, Celery's parent with its child."""
    patience.stage.kill(os.getpgid(pid))
    patience.stage.release()


def _stop_beyond_the_claim(patience: Patience, cell: Cell, at: str, pid: int) -> None:
    """Stop the worker until its claim has run out, and let it go on when another has done its work."""
    from tokens.gate import LEASE, LEASE_SLACK

    group = os.getpgid(pid)
    os.killpg(group, signal.SIGSTOP)
    patience.stage.release()
    if at == "claimed, not sent":
        # It looks at its own clock before it sends, and that one passes in real time alone.
        time.sleep(LEASE_SLACK.total_seconds() / 2 + 1)
    patience.let_pass(LEASE.total_seconds() + 1)
    if cell.is_strict:
        # Others have their chance to claim, and wait: the access token is still good.
        patience.tick()
    else:
        patience.recover([cell])
    os.killpg(group, signal.SIGCONT)


def _stop_database(patience: Patience, cell: Cell, at: str, pid: int) -> None:
    """Stop PostgreSQL in immediate mode, let everybody go on without it, and start it again."""
    stage = patience.stage
    child = stage.stop_server("postgres")
    stage.release()
    time.sleep(0.5)
    stage.servers.restart(child)
    wait_until(database_is_back, what="the database")


def _stop_broker(patience: Patience, cell: Cell, at: str, pid: int) -> None:
    """Flush and kill the broker, let everybody go on without it, and start it again."""
    from redis import Redis

    stage = patience.stage
    with Redis.from_url(stage.servers.redis_url) as broker:
        broker.flushall()
    child = stage.stop_server("valkey")
    stage.release()
    time.sleep(0.3)
    stage.servers.restart(child)


def _jump(seconds: float) -> Callable[[Patience, Cell, str, int], Callable[[], None]]:
    def act(patience: Patience, cell: Cell, at: str, pid: int) -> Callable[[], None]:
        """Let the database's clock jump, with a worker in the middle of its work, and another one there to claim."""
        clock.move_database(seconds)
        patience.tick()
        with suppress(OSError):
            patience.stage.release()
        return lambda: clock.move_database(-seconds)

    return act


FAULTS: dict[str, Callable[[Patience, Cell, str, int], Callable[[], None] | None]] = {
    KILL: _kill,
    STOP: _stop_beyond_the_claim,
    DATABASE: _stop_database,
    BROKER: _stop_broker,
    FORWARD: _jump(3600),
    "database clock - 1 h": _jump(-3600),
}
