"""Let a system recover: propose as beat does, and let time pass when nobody is at work."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from django.db import InterfaceError, OperationalError, connection

from bench.faults import clock
from bench.faults.judge import judge
from bench.faults.stage import is_running
from bench.faults.world import grants_of, put_away

if TYPE_CHECKING:
    from collections.abc import Collection

    from bench.faults.stage import Stage
    from bench.faults.world import Cell
    from tokens.models import Grant

# Give up after so long, in the moved time and in real time.
LIMIT_S = 4 * 3600.0
REAL_LIMIT_S = 90.0
# An attempt that is open longer than this, in real seconds, is nobody's work any more.
LONGEST_WORK_S = 6.0
# How far time moves when something is due and nobody takes it: a breaker is open, say.
STEP_S = 5.0


class Patience:
    """One run's time: real seconds and those that were let pass."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.passed = 0.0
        self._seen: dict[int, float] = {}

    def now(self) -> float:
        return time.monotonic() + self.passed

    def let_pass(self, seconds: float) -> None:
        clock.let_pass(seconds, self.stage.sandbox)
        self.passed += seconds

    def recover(self, cells: Collection[Cell], *, limit: float = LIMIT_S) -> None:
        """Go on until every grant of the cells has been refreshed or has ended, or there is no hope left."""
        pending = [cell for cell in cells if cell.recovered is None and not cell.is_hopeless]
        end, real_end = self.now() + limit, time.monotonic() + REAL_LIMIT_S
        while pending and self.now() < end and time.monotonic() < real_end:
            is_carried_out = self.tick()
            for cell in list(pending):
                if _is_done(cell):
                    cell.recovered = self.now() - cell.began
                    pending.remove(cell)
            # While workers only start, say, nobody's patience is tried.
            if pending and is_carried_out and not self.is_busy():
                self.let_pass(_next_step(pending))

    def judge(self, cells: Collection[Cell]) -> None:
        """Judge cells when everybody has come to rest, and put them away."""
        self.settle()
        for cell in cells:
            judge(cell, self.stage.sandbox)
            put_away(cell)

    def tick(self) -> bool:
        """Propose once, and tell whether a worker has carried the proposal out within a moment."""
        self.stage.refill()
        mark = _finished(self.stage)
        self.stage.propose()
        deadline = time.monotonic() + 1.5
        while _finished(self.stage) == mark:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def settle(self, seconds: float = 10) -> None:
        """Wait until nobody is at work."""
        deadline = time.monotonic() + seconds
        while self.is_busy() and time.monotonic() < deadline:
            time.sleep(0.05)

    def is_busy(self) -> bool:
        """Tell whether a process that runs has an attempt open: time must not be moved under its feet."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, worker FROM tokens_refreshattempt WHERE committed_at IS NULL")
            rows = cursor.fetchall()
        now = time.monotonic()
        is_busy = False
        for pk, worker in rows:
            first_seen = self._seen.setdefault(pk, now)
            if now - first_seen < LONGEST_WORK_S and is_running(int(worker.rpartition(":")[2])):
                is_busy = True
        return is_busy


def _is_done(cell: Cell) -> bool:
    return all(_is_settled(cell, grant) for grant in grants_of(cell))


def _is_settled(cell: Cell, grant: Grant) -> bool:
    """Tell whether a grant is fresh, or ended, or known to be dead where that was to be expected."""
    if grant.status != "active" or (cell.may_lose and grant.fail_outcome == "grant_dead"):
        return True
    return grant.gen > 0 and grant.claim_owner is None and grant.inflight_gen is None


def _next_step(cells: Collection[Cell]) -> float:
    """Return the seconds until something of these cells is due, or a step where it is due already."""
    waits = []
    now = clock.database_now()
    for cell in cells:
        cell.config.refresh_from_db()
        for grant in grants_of(cell):
            if grant.status != "active" or grant.gen > 0:
                continue
            until = [grant.claim_until, grant.refresh_due_at, cell.config.paused_until]
            waits.append(max((moment - now).total_seconds() for moment in until if moment))
    soonest = min(waits, default=STEP_S)
    return soonest + 0.01 if soonest > 0 else STEP_S


def _finished(stage: Stage) -> int:
    """Return how many proposals the workers have carried out, by their logs."""
    total = 0
    for name in stage.workers:
        with suppress(OSError):
            text = (stage.folder / f"{name}.log").read_text(errors="replace")
            total += len(re.findall(r"refresh_due\[[\w-]+\] (?:succeeded|raised)", text))
    return total


def database_is_back() -> bool:
    """Tell whether our own session with the database works, making a new one if need be."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except (OperationalError, InterfaceError):
        connection.close()
        return False
    return True
