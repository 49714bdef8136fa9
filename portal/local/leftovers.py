"""What a run that was killed together with its watchdog has left: remembered in a file, ended by the next run."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from portal.local.environment import write_private

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from portal.local.processes import Child

NAME = "running.json"
PATIENCE_S = 5


def remember(data: Path, children: Iterable[Child]) -> None:
    """Write down what runs now, each with its start time, so that a reused process id is not mistaken for it."""
    running = []
    for child in children:
        with suppress(psutil.Error):
            running.append([child.pid, psutil.Process(child.pid).create_time()])
    write_private(data / NAME, json.dumps(running))


def forget(data: Path) -> None:
    (data / NAME).unlink(missing_ok=True)


def end(data: Path) -> None:
    """Kill what still runs of an earlier run, and return when it is gone. Only who holds the data folder may ask."""
    try:
        remembered = json.loads((data / NAME).read_text())
    except (OSError, ValueError):
        return
    left = []
    for pid, created in remembered:
        with suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            if abs(process.create_time() - created) < 1:
                left += [process, *process.children(recursive=True)]
                # Each was started as the leader of its group; the design survives kill -9 at any point.
                os.killpg(pid, signal.SIGKILL)
    psutil.wait_procs(left, timeout=PATIENCE_S)
    forget(data)
