"""Keep many short-lived grants fresh for a while, with faults, and with readers beside it.

    python -m bench.soak [--minutes 10] [--grants 50000] [--life 60] [--faults 0.01] [--workers 2] [--readers 4]

Access tokens live a minute, so 50,000 grants offer more than 1,000 refreshes a second. What counts: how long a grant's
token stood expired, how long readers of the API waited, and whether memory grew. One token request in a hundred goes
wrong, half of those after the provider's commit. At the end the provider is asked whether it honours every token stored.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil

from bench.faults.stage import Stage
from bench.faults.world import new_config, store

if TYPE_CHECKING:
    from collections.abc import Sequence

CLIENT_ID = "SoakClient0000000000000000000000"
# Share of the faults, kind by kind.
FAULTS = {"drop_after_commit": 0.3, "status_after": 0.2, "drop_before_commit": 0.3, "status_before": 0.2}
SAMPLE_S = 5.0
# A reader's pause between two calls.
READER_PAUSE_S = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--grants", type=int, default=50_000)
    parser.add_argument(
        "--life", type=int, default=60, help="seconds that access tokens live, and the leeway"
    )
    parser.add_argument("--faults", type=float, default=0.01, help="share of token requests that go wrong")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--readers", type=int, default=4)
    options = parser.parse_args()
    print(f"machine: {platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"settings: {vars(options)}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        stage = Stage(Path(folder), workers=options.workers, leeway=options.life)
        try:
            stage.open()
            return _soak(stage, options)
        finally:
            stage.close()


def _soak(stage: Stage, options: argparse.Namespace) -> int:
    import django

    django.setup()
    from django.core.management import call_command

    from portal.start_up import require_sound_start

    call_command("migrate", verbosity=0)
    require_sound_start()
    stage.sandbox.set(
        access_ttl=options.life,
        reuse_leeway_seconds=options.life,
        access_token_dies_after_refresh=options.life,
    )
    grants, key = _fill(stage, options)
    for kind, share in FAULTS.items():
        stage.sandbox.fault(kind, client_id=CLIENT_ID, times=-1, rate=options.faults * share)
    address = stage.web()
    stage.begin()
    time.sleep(options.life / 2)  # Until all are in step; what came before is not counted.
    memory, gens = {"start": _memory()}, _gens()
    expired, reads = asyncio.run(_watch(options, address, key, grants))
    memory["end"] = _memory()
    stage.sandbox.clear_faults()
    return _report(stage, options, grants, expired, reads, memory, _gens() - gens)


def _fill(stage: Stage, options: argparse.Namespace) -> tuple[list[Any], str]:
    """Store the grants, due at times spread over half a token's life; return their ids and an API key."""
    from portal import api_keys
    from portal.audit import SYSTEM
    from portal.models.api_keys import KeyPermission
    from tokens.clock import database_now

    stage.sandbox.register_client(CLIENT_ID, "ATOAbench-CANARY-7f3a-secret")
    config = new_config("Soak", "soak", provider="soak", client_id=CLIENT_ID)
    config.max_parallel, config.max_per_second = 2000, 5000
    config.save()
    began = time.monotonic()
    stored: list[Any] = []
    while len(stored) < options.grants:
        count = min(1000, options.grants - len(stored))
        minted = stage.sandbox.mint(CLIENT_ID, count, first=len(stored))
        # While the rest is stored, these are good; what counts begins later.
        expires_at = database_now() + dt.timedelta(seconds=options.life * 2)
        due = [
            database_now() + dt.timedelta(seconds=options.life * random.uniform(0.3, 1)) for _ in range(count)
        ]
        stored += store(config, minted, expires_at=expires_at, due_at=due)
    print(f"{len(stored)} grants stored in {time.monotonic() - began:.0f} s", flush=True)
    _, key = api_keys.create(
        config.application, name="soak", permissions=[KeyPermission.TOKENS_READ], actor=SYSTEM
    )
    return stored, key


async def _watch(
    options: argparse.Namespace, address: str, key: str, grants: Sequence[Any]
) -> tuple[list[float], list[tuple[float, int]]]:
    """Sample what stands expired, and read tokens beside it; return seconds expired by sample, and reads with status."""
    end = time.monotonic() + options.minutes * 60
    reads: list[tuple[float, int]] = []

    async def read(session: aiohttp.ClientSession) -> None:
        while time.monotonic() < end:
            began = time.perf_counter()
            try:
                async with session.get(
                    f"{address}/api/v1/grants/{random.choice(grants)}/token?min_ttl=0"
                ) as answer:
                    await answer.read()
                    status = answer.status
            except (aiohttp.ClientError, TimeoutError):
                status = 0
            reads.append((time.perf_counter() - began, status))
            await asyncio.sleep(READER_PAUSE_S)

    async def sample() -> list[float]:
        seconds: list[float] = []
        last = time.monotonic()
        while time.monotonic() < end:
            await asyncio.sleep(SAMPLE_S)
            expired = await asyncio.to_thread(_expired_now)
            now = time.monotonic()
            seconds.append(expired * (now - last))
            if len(seconds) % 12 == 0:
                print(f"  {len(seconds) * SAMPLE_S:.0f} s: {expired} expired now", flush=True)
            last = now
        return seconds

    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(30)) as session:
        readers = [asyncio.create_task(read(session)) for _ in range(options.readers)]
        expired = await sample()
        await asyncio.gather(*readers)
    return expired, reads


def _expired_now() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tokens_grant WHERE access_expires_at < clock_timestamp()")
        (count,) = cursor.fetchone()
    return int(count)


def _gens() -> int:
    """Return how many refreshes have been accepted so far."""
    from django.db.models import Sum

    from tokens.models import Grant

    return int(Grant.objects.aggregate(Sum("gen"))["gen__sum"])


def _memory() -> dict[str, float]:
    """Return resident megabytes by kind of process: everything that runs below us."""
    found: dict[str, float] = {}
    for process in psutil.process_iter(["cmdline", "memory_info"]):
        line = " ".join(process.info["cmdline"] or [])
        for kind, mark in (
            ("workers", "bench.faults.nursery"),
            ("web", "granian"),
            ("sandbox", "manage.py sandbox"),
        ):
            if mark in line and process.info["memory_info"] and str(Path.cwd()) in (process.cwd() or ""):
                found[kind] = found.get(kind, 0) + process.info["memory_info"].rss / 1e6
    return {kind: round(megabytes) for kind, megabytes in sorted(found.items())}


def _report(
    stage: Stage,
    options: argparse.Namespace,
    grants: Sequence[Any],
    expired: Sequence[float],
    reads: Sequence[tuple[float, int]],
    memory: dict[str, dict[str, float]],
    refreshes: int,
) -> int:
    from django.db.models import Count

    from tokens.models import RefreshAttempt

    seconds = options.minutes * 60
    counts = dict(RefreshAttempt.objects.order_by().values_list("outcome").annotate(number=Count("*")))
    good = sorted(took for took, status in reads if status == 200)
    p50, p99 = (statistics.quantiles(good, n=100)[place - 1] * 1000 for place in (50, 99))
    refused = len(reads) - len(good)
    lost = _lost(stage, grants)
    print(f"outcomes since the start: {counts}")
    print(f"reads: {len(reads) / seconds:.0f}/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms, {refused} refused")
    print(f"memory in MB, all processes of a kind together: {memory}")
    print(
        f"bench-soak minutes={options.minutes:g} grants={len(grants)} refreshes={refreshes / seconds:.0f}/s "
        f"expired={sum(expired) / len(grants):.2f}s/grant read_p99={p99:.0f}ms refused={refused} lost={lost} "
        f"workers={memory['start'].get('workers', 0)}->{memory['end'].get('workers', 0)}MB",
        flush=True,
    )
    return 1 if lost else 0


def _lost(stage: Stage, grants: Sequence[Any]) -> int:
    """Return of how many grants the provider would refuse the stored refresh token, or the status is wrong."""
    from portal.encryption import unseal
    from providers.sandbox.tokens import digest
    from tokens.models import GrantTokens

    for pid in stage.workers.values():
        stage.kill(pid)
    lost = 0
    for start in range(0, len(grants), 1000):
        rows = GrantTokens.objects.select_related("grant").filter(grant__in=grants[start : start + 1000])
        stored = {digest(unseal(row, "refresh_token") or ""): row.grant.status for row in rows}
        refusals = stage.sandbox.refusals(list(stored))
        lost += sum(bool(refusals[name]) or status != "active" for name, status in stored.items())
    return lost


if __name__ == "__main__":
    sys.exit(main())
