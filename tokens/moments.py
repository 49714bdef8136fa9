"""Named moments at which the fault bench holds a process, so that it can be killed, stopped or starved just there.

Off unless FAULT_MOMENTS_DIR names a folder, which the system checks refuse anywhere but on a developer's machine
(portal.E004); off, a moment is a call of an empty function. On, a file named for the moment in that folder is an order
to the first process that comes by: it renames the file, so that its process id is behind the name, and stays until the
file is gone.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from django.conf import settings

BEFORE_CLAIM = "before_claim"
AFTER_CLAIM = "after_claim"  # Durable, and nothing sent.
BEFORE_COMMIT = "before_commit"  # The answers are read, and nothing is stored.
AFTER_COMMIT = "after_commit"
POLL_S = 0.01


def _pass(moment: str) -> None:
    """Do nothing."""


def _hold(moment: str) -> None:
    order = Path(settings.FAULT_MOMENTS_DIR, moment)
    held = order.with_name(f"{moment}.{os.getpid()}")
    with suppress(FileNotFoundError):
        order.rename(held)
        while held.exists():
            time.sleep(POLL_S)


reached = _hold if settings.FAULT_MOMENTS_DIR else _pass
