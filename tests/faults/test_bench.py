"""The short form of the fault bench: real processes are killed, stopped and starved, and the provider's ledger judges."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.processes import ROOT
from tests.servers import UNWANTED

pytestmark = pytest.mark.slow


@pytest.mark.timeout(400)
def test_no_fault_loses_a_grant_or_spends_a_token_twice() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in UNWANTED}

    done = subprocess.run(
        [sys.executable, "-m", "bench.faults", "--short"],
        check=False,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )

    # A failure shows the table, the causes, and the seed at the top.
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("lost=0 double=0")
