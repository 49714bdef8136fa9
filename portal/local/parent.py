"""Notice that the make which started us is gone, or was asked to stop and now waits for us."""

from __future__ import annotations

import os
import signal
from pathlib import Path

STOP_SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Parent:
    """Our parent process, if it is make. Started by anything else, we may well outlive it."""

    def __init__(self) -> None:
        self._make = os.getppid() if "MAKELEVEL" in os.environ else None

    def wants_us_to_stop(self) -> bool:
        if self._make is None:
            return False
        return os.getppid() != self._make or was_interrupted(self._make)


def was_interrupted(make: int) -> bool:
    """Tell whether make got a signal that it did not pass on.

    A terminal's Ctrl-C reaches us too, but `kill -INT` reaches make alone, which then waits for us inside its signal
    handler. While it is there the signal is blocked, and Linux shows that. Elsewhere: False.
    """
    try:
        status = Path(f"/proc/{make}/status").read_text()
    except OSError:
        return False
    blocked = next(
        (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk:")), 0
    )
    return any(blocked >> (number - 1) & 1 for number in STOP_SIGNALS)
