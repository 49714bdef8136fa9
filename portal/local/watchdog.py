"""Stop the process groups of a parent that died without stopping them, even by kill -9.

Runs as a process of its own, on the standard library alone. The parent writes "+GROUP SIGNAL" for each group that it
starts and "-GROUP" for each that has ended. When the pipe closes, whatever is left gets its signal, and after a few
seconds SIGKILL. A pipe closes however its owner ends, on Linux and macOS alike, so nothing has to be polled.
"""

import os
import signal
import sys
import time
from contextlib import suppress

GRACE_S = 10.0


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # macOS says this of a group that holds only zombies.
        return sys.platform != "darwin"
    return True


def send(group: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, int] = {}
    for line in sys.stdin:
        group, *how = line[1:].split()
        if line.startswith("+"):
            groups[int(group)] = int(how[0])
        else:
            groups.pop(int(group), None)
    deadline = time.monotonic() + GRACE_S
    # The last started lean on the first: the database is asked last.
    for group in reversed(groups):
        send(group, groups[group])
    while any(is_alive(group) for group in groups) and time.monotonic() < deadline:
        time.sleep(0.05)
    for group in groups:
        send(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
