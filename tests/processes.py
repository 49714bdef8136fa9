"""Start our real processes against the test's database and broker, and end them with the test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode
from urllib.request import urlopen

from django.conf import settings
from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
LAST_LINES = 40


def test_database_url() -> str:
    """Return the URL of the database that this test runs on."""
    values = connection.settings_dict
    options = {
        name: str(value) for name, value in values.get("OPTIONS", {}).items() if name in ("host", "port")
    }
    host = quote(str(values["HOST"]), safe="") + (f":{values['PORT']}" if values["PORT"] else "")
    user = quote(str(values["USER"])) + (f":{quote(str(values['PASSWORD']))}" if values["PASSWORD"] else "")
    query = f"?{urlencode(options)}" if options else ""
    return f"postgres://{user}@{host}/{values['NAME']}{query}"


test_database_url.__test__ = False


class Processes:
    """Subprocesses with the test's settings in their environment; logs go to a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "DATABASE_URL": test_database_url(),
            "REDIS_URL": settings.REDIS_URL,
            "SANDBOX_URL": settings.SANDBOX_URL,
            "EGRESS_PLAIN_HTTP": "true",
            "LOG_LEVEL": "DEBUG",
            "LOG_FORMAT": "json",
            "PUBLIC_URL": "http://127.0.0.1:8000",
            "PYTHONUNBUFFERED": "1",
        }
        self.environment.pop("PYTEST_CURRENT_TEST", None)

    def start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start one of our processes with the project's Python; its output goes to `name`.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def worker(self, name: str = "worker", **environment: str) -> subprocess.Popen[bytes]:
        """Start a real Celery worker."""
        return self.start(
            name, "-m", "celery", "--quiet", "-A", "portal", "worker", "--concurrency", "1",
            "--hostname", f"{name}@%h", **environment,
        )  # fmt: skip

    def beat(self, name: str = "beat", *, interval: float = 1) -> subprocess.Popen[bytes]:
        """Start a real Celery beat that proposes every `interval` seconds."""
        return self.start(
            name, "-m", "celery", "--quiet", "-A", "portal", "beat",
            "--schedule", str(self.folder / f"{name}.schedule"), REFRESH_INTERVAL_S=str(int(interval)),
        )  # fmt: skip

    def web(self, **environment: str) -> str:
        """Start the real web server on a free port, wait until it answers, and return its address."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        # Links start with it, in the worker's e-mails too.
        self.environment |= {
            "PUBLIC_URL": address,
            "DATA_DIR": str(self.folder),
            "ALLOWED_HOSTS": "127.0.0.1",
        }
        self.start("collectstatic", "manage.py", "collectstatic", "--no-input", "--verbosity", "0").wait()
        self.start(
            "web", "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port),
            "--blocking-threads", "4", "--log-config", "portal/granian_logs.json", "portal.wsgi:application",
            **environment,
        )  # fmt: skip
        wait_until(lambda: _answers(address), what="the web process")
        return address

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill -9 a process with all its children."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """End everything that was started, and print how each log ends: pytest shows it where a test has failed."""
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

        for log in sorted(self.folder.glob("*.log")):
            print(f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-LAST_LINES:], sep="\n")

    def logs(self) -> str:
        """Return all output so far."""
        return "\n".join(file.read_text(errors="replace") for file in sorted(self.folder.glob("*.log")))


def _answers(address: str) -> bool:
    try:
        with urlopen(f"{address}/healthz", timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def wait_until(condition: Callable[[], Any], *, seconds: float = 60, what: str = "") -> Any:
    """Return the condition's value as soon as it is true; fail with a sentence if it never is."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {seconds} s in vain{' for ' + what if what else ''}.")
        time.sleep(0.1)
