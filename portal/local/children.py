"""The processes of a local portal, and the command behind each."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from portal.local.environment import HOST, ROOT
from portal.local.processes import Child

if TYPE_CHECKING:
    from portal.local.environment import Place
    from portal.local.processes import Watchdog

# Granian ends its requests, Celery its running task; after that they have had their chance.
STOP = ((signal.SIGTERM, 6.0),)
CELERY_STOP = ((signal.SIGTERM, 5.0), (signal.SIGQUIT, 2.0))
# Two minutes of life, so that a refresh can be watched.
DEMO_ACCESS_TTL_S = 120


def describe_children(place: Place, env: dict[str, str], watchdog: Watchdog) -> list[Child]:
    """Return the processes to start, in this order."""
    python = sys.executable
    data = place.data
    commands: dict[str, list[str]] = {}
    if place.has_sandbox:
        commands["sandbox"] = [python, "manage.py", "sandbox", "--port", str(place.sandbox_port)]
        commands["sandbox"] += ["--access-ttl", str(DEMO_ACCESS_TTL_S), "--state", str(data / "sandbox.json")]
    commands["web"] = [
        python,
        "-m",
        "granian",
        "--interface",
        "wsgi",
        "--http",
        "1",
        "--no-ws",
        "--host",
        HOST,
    ]
    commands["web"] += ["--port", str(place.port), "--blocking-threads", "16", "--workers-kill-timeout", "5"]
    commands["web"] += ["portal.wsgi:application"]
    celery = [python, "-m", "celery", "-A", "portal"]
    commands["worker"] = [
        *celery,
        "worker",
        "--loglevel",
        "INFO",
        "--concurrency",
        "2",
        "--without-gossip",
        "--without-mingle",
    ]
    # No pid file: a stale one would stop the next start, and running two beats is harmless here.
    commands["beat"] = [
        *celery,
        "beat",
        "--loglevel",
        "INFO",
        "--pidfile=",
        "--schedule",
        str(data / "celerybeat-schedule"),
    ]
    return [
        Child(
            name,
            command,
            log=data / "logs" / f"{name}.log",
            watchdog=watchdog,
            env=env,
            cwd=ROOT,
            stop_signals=CELERY_STOP if name in {"worker", "beat"} else STOP,
        )
        for name, command in commands.items()
    ]
