"""Stop the process groups of a parent that died without stopping them, even by kill -9.

Runs as a process of its own, on the standard library alone. The parent writes "+GROUP SIGNAL" for each group that it
starts and "-GROUP" for each that has ended. When the pipe closes, whatever is left gets its signal, and after a few
seconds SIGKILL. A pipe closes however its owner ends, on Linux and macOS alike, so nothing has to be polled.
"""

import os
import signal
import sys
import time

GRACE_S = 15.0


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
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


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
    # The last started depend on the first: the database goes when nothing needs it any more.
    deadline = time.monotonic() + GRACE_S
    for group in reversed(groups):
        send(group, groups[group])
        while is_alive(group) and time.monotonic() < deadline:
            time.sleep(0.05)
    for group in groups:
        send(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
