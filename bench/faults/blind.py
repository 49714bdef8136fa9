"""Blind faults: whatever comes, whenever it comes, for a while; the seed repeats the choices."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from redis import Redis, RedisError

from bench.faults.at_the_provider import make_due
from bench.faults.world import new_cell

if TYPE_CHECKING:
    from bench.faults.recovery import Patience
    from bench.faults.world import Cell

# Access tokens live so long here, so that every grant is refreshed many times.
LIFE_S = 120
# How often, of all token requests, the provider or the way to it fails.
RATES = {"drop_after_commit": 0.03, "status_after": 0.02, "drop_before_commit": 0.02, "latency": 0.1}


def run_blind(patience: Patience, *, grants: int, seconds: float, seed: int) -> Cell:
    """Kill workers at random, drop answers at random, flush the broker, let time pass; then let it recover."""
    chance = random.Random(seed)
    stage, sandbox = patience.stage, patience.stage.sandbox
    sandbox.set(access_ttl=LIFE_S)
    cell = new_cell(
        sandbox, "blind kill -9, lost answers, flushed broker", "at random", grants=grants, is_due=False
    )
    for kind, rate in RATES.items():
        options = {"ms": 400, "after": True} if kind == "latency" else {}
        sandbox.fault(kind, client_id=cell.client_id, times=-1, rate=rate, **options)
    make_due(patience, [cell])
    kills = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stage.refill()
        stage.propose()
        time.sleep(chance.uniform(0, 0.3))
        what = chance.random()
        victim = chance.choice(list(stage.workers.values()))
        if what < 0.25:
            stage.kill(victim)
            kills += 1
        elif what < 0.4:
            kills += _kill_child(victim)
        elif what < 0.45:
            with suppress(RedisError), Redis.from_url(stage.servers.redis_url) as broker:
                broker.flushall()
        elif patience.tick() and not patience.is_busy():
            patience.let_pass(chance.uniform(5, 30))
    sandbox.clear_faults()
    cell.began = patience.now()
    patience.recover([cell])
    patience.judge([cell])
    sandbox.set(access_ttl=3600)
    cell.at = f"at random ({kills} kills, {sum(grant.gen for grant in _grants(cell))} refreshes)"
    return cell


def _kill_child(parent: int) -> int:
    """Kill -9 the process that Celery has forked to work, and leave its parent; return how many."""
    with suppress(OSError):
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
            return 1
    return 0


def _grants(cell: Cell) -> list[object]:
    from bench.faults.world import grants_of

    return list(grants_of(cell))
