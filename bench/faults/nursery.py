"""Make Celery workers by forking a process that has everything imported: a killed one is replaced in a fraction of a second.

Reads a name a line, forks a worker of that name with its output in `name`.log below the folder that is the first
argument, and prints its process id, which is its process group's too. Ends with its input.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path


def main() -> None:
    import django

    django.setup()
    import kombu.transport.redis  # noqa: F401
    from django.core.checks import run_checks
    from django.db import connection

    import tokens.tasks  # noqa: F401

    run_checks()
    connection.close()
    # Nobody waits for the workers; without this they would stay as zombies.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        name = line.strip()
        pid = os.fork()
        if pid == 0:
            _work(name, Path(sys.argv[1], f"{name}.log"))
        print(pid, flush=True)


def _work(name: str, log: Path) -> None:
    """Be a worker, as `celery -A portal worker` makes one."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, output), (2, output)):
            os.dup2(source, target)
        from portal.celery import app

        app.worker_main(
            ["worker", "--concurrency", "1", "--loglevel", "INFO", "--without-gossip", "--without-mingle",
             "--hostname", f"{name}@bench"]
        )  # fmt: skip
    except BaseException:  # noqa: BLE001 - the child of a fork must never come back to the loop
        traceback.print_exc()
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
