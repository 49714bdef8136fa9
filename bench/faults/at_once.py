"""Many at one moment: beats, deliveries, readers; and processes that must not work at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from bench.faults.at_moments import READ
from bench.faults.at_the_provider import make_due
from bench.faults.clock import database_now
from bench.faults.judge import calls_of
from bench.faults.stage import wait_until
from bench.faults.world import grants_of, new_cell
from portal.local.environment import ROOT, new_encryption_key
from tokens import moments

if TYPE_CHECKING:
    from bench.faults.recovery import Patience
    from bench.faults.world import Cell

READERS = 50


def run_beats_and_deliveries(patience: Patience, *, grants: int) -> list[Cell]:
    """Let two beats propose, and every proposal come many times."""
    stage = patience.stage
    stage.beat("second-beat")
    cells = [new_cell(stage.sandbox, "two beats", "due", grants=grants, is_due=False)]
    make_due(patience, cells)
    patience.recover(cells)
    cells.append(
        new_cell(stage.sandbox, "one proposal delivered 50 times", "due", grants=grants, is_due=False)
    )
    make_due(patience, cells[1:])
    stage.propose(50)
    patience.recover(cells)
    patience.judge(cells)
    stage.kill(stage.running["second-beat"].pid)
    return cells


def run_slow_beat(patience: Patience, *, grants: int) -> Cell:
    """Let proposals come from a beat alone whose machine's clock is half an hour behind the workers'."""
    stage = patience.stage
    cell = new_cell(
        stage.sandbox, "beat's clock half an hour behind the worker's", "due", grants=grants, is_due=False
    )
    os.killpg(stage.running["beat"].pid, signal.SIGSTOP)
    try:
        make_due(patience, [cell])
        stage.propose(late_s=1800)
        with suppress(TimeoutError):
            wait_until(lambda: all(grant.gen for grant in grants_of(cell)), seconds=10, what="the refreshes")
            cell.recovered = patience.now() - cell.began
    finally:
        os.killpg(stage.running["beat"].pid, signal.SIGCONT)
    patience.judge([cell])
    return cell


def run_readers(patience: Patience, address: str) -> list[Cell]:
    """Let 50 readers ask for one token: at the moment of its expiry, and while the provider is down."""
    stage, sandbox = patience.stage, patience.stage.sandbox
    expired = new_cell(sandbox, f"{READERS} readers", "at expiry", grants=1, life=0)
    sandbox.fault("latency", client_id=expired.client_id, ms=300)
    stage.propose()
    expired.began = patience.now()
    _expect(expired, _read_all(expired, address))
    good = new_cell(
        sandbox, f"{READERS} readers, the provider is down", "token still good", grants=1, life=45
    )
    sandbox.fault("status_before", client_id=good.client_id, times=-1)
    good.began = patience.now()
    _expect(good, _read_all(good, address))
    sandbox.clear_faults()
    patience.recover([expired, good])
    patience.judge([expired, good])
    if calls_of(expired, sandbox)[1:]:
        expired.problems.append("more than one call")
    return [expired, good]


def run_killed_readers(patience: Patience, address: str) -> list[Cell]:
    """Kill the web process while it refreshes for a reader. Ends with the web process gone."""
    stage = patience.stage
    cells = []
    for at in (moments.AFTER_CLAIM, moments.BEFORE_COMMIT):
        words = {moments.AFTER_CLAIM: "claimed, not sent", moments.BEFORE_COMMIT: READ}[at]
        cell = new_cell(stage.sandbox, "kill -9 of web under a reader", words, grants=1, life=0, is_due=False)
        stage.arm(at)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(_read_all, cell, address, 1)
            pid = wait_until(lambda at=at: stage.held(at), what=f"a reader at {at}")
            stage.kill(os.getpgid(pid))
        stage.release()
        make_due(patience, [cell])
        cells.append(cell)
        address = stage.web()
    patience.recover(cells)
    patience.judge(cells)
    return cells


def run_impostors(patience: Patience, *, grants: int) -> list[Cell]:
    """Let processes with another key, and with a copy's instance id, try to work: they must call nobody."""
    stage = patience.stage
    wrong_key = new_cell(stage.sandbox, "a worker without the key", "start", grants=grants, is_due=False)
    copy = new_cell(
        stage.sandbox, "a copy of the database (another instance id)", "due", grants=grants, is_due=False
    )
    for pid in stage.workers.values():
        os.killpg(pid, signal.SIGSTOP)
    make_due(patience, [wrong_key, copy])
    drain = "import sys; from tokens.engine import drain; sys.exit(100 + drain())"
    code = _exit_code(patience, drain, ENCRYPTION_KEYS=new_encryption_key())
    if code == 0 or calls_of(wrong_key, stage.sandbox):
        wrong_key.problems.append(f"it did not refuse to start (exit code {code})")
    code = _exit_code(patience, drain, INSTANCE_ID="a-copy")
    if code != 100 or calls_of(copy, stage.sandbox):
        copy.problems.append(f"a copy made calls (exit code {code})")
    for pid in stage.workers.values():
        os.killpg(pid, signal.SIGCONT)
    patience.recover([wrong_key, copy])
    patience.judge([wrong_key, copy])
    return [wrong_key, copy]


def _exit_code(patience: Patience, program: str, **environment: str) -> int:
    """Start as a worker does, run a program, and return what it ended with."""
    start = "import django; django.setup(); from portal.start_up import require_sound_start; require_sound_start(); "
    done = subprocess.run(
        [sys.executable, "-c", start + program],
        check=False,
        cwd=ROOT,
        env={**os.environ, **patience.stage.environment, **environment},
        capture_output=True,
        timeout=120,
    )
    return done.returncode


def _expect(cell: Cell, answers: list[tuple[int, str]]) -> None:
    """Note whatever is not a good token for everybody (I4: the one that is stored)."""
    from portal.encryption import unseal
    from tokens.models import GrantTokens

    stored = unseal(GrantTokens.objects.select_related("grant").get(grant=cell.grants[0]), "access_token")
    refused = [status for status, _ in answers if status != 200]
    if refused:
        cell.problems.append(f"{len(refused)} of {len(answers)} readers were refused ({refused[0]})")
    if any(token != stored for status, token in answers if status == 200):
        cell.problems.append("a reader was given a token that is not the stored one")
    from tokens.models import Grant

    if Grant.objects.get(pk=cell.grants[0]).access_expires_at <= database_now():
        cell.problems.append("the token had run out")


def _read_all(cell: Cell, address: str, readers: int = READERS) -> list[tuple[int, str]]:
    from portal import api_keys
    from portal.audit import SYSTEM
    from portal.models.api_keys import KeyPermission

    _, key = api_keys.create(
        cell.config.application, name="bench", permissions=[KeyPermission.TOKENS_READ], actor=SYSTEM
    )
    opener = build_opener(ProxyHandler({}))
    request = Request(
        f"{address}/api/v1/grants/{cell.grants[0]}/token", headers={"Authorization": f"Bearer {key}"}
    )

    def read(_: int) -> tuple[int, str]:
        try:
            with opener.open(request, timeout=30) as response:
                return response.status, json.load(response)["access_token"]
        except HTTPError as error:
            return error.code, ""
        except OSError:
            return 0, ""

    with ThreadPoolExecutor(readers) as pool:
        return list(pool.map(read, range(readers)))
