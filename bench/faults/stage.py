"""The processes under test, as in production: PostgreSQL, Valkey, the sandbox, web, workers and beats."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

from bench.faults.catalog import write_catalog
from bench.faults.relay import Relay
from portal.embedded import EmbeddedServers
from portal.local.environment import ROOT, new_encryption_key
from portal.local.processes import Watchdog
from providers.sandbox.client import SandboxClient

if TYPE_CHECKING:
    from collections.abc import Callable

INSTANCE = "the-bench"


class Stage:
    """All processes of one run. Their logs, sockets and data are below `folder`."""

    def __init__(self, folder: Path, *, workers: int = 2, leeway: int = 60) -> None:
        self.folder = folder
        self._most_workers, self._leeway = workers, leeway
        self.moments = folder / "moments"
        self.moments.mkdir()
        # Ends everything if we are killed.
        self._watchdog = Watchdog()
        self.servers = EmbeddedServers(folder / "servers", watchdog=self._watchdog)
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        # Process ids, and process groups, by name.
        self.workers: dict[str, int] = {}
        self._named = 0
        self._nursery: subprocess.Popen[bytes] | None = None
        port = free_port()
        self.sandbox = SandboxClient(f"http://127.0.0.1:{port}")
        self._sandbox_port = port
        self.relay = Relay(free_port(), port)
        self.environment: dict[str, str] = {}

    def open(self) -> None:
        """Start servers and sandbox, and set our own environment, so that Django can be set up here."""
        self.servers.start()
        write_catalog(
            self.folder / "catalog", relay=self.relay.port, plain=self._sandbox_port, leeway=self._leeway
        )
        self.environment = {
            "SECRET_KEY": "bench" * 12,
            "ENCRYPTION_KEYS": new_encryption_key(),
            "INSTANCE_ID": INSTANCE,
            "PUBLIC_URL": "http://127.0.0.1:8000",
            "INSECURE_HTTP": "true",
            "ALLOWED_HOSTS": "127.0.0.1",
            "DATABASE_URL": self.servers.database_url,
            "REDIS_URL": self.servers.redis_url,
            "SANDBOX_URL": self.sandbox.url,
            "PROVIDER_CATALOG_DIRS": str(self.folder / "catalog"),
            "DJANGO_SETTINGS_MODULE": "portal.settings",
            "FAULT_MOMENTS_DIR": str(self.moments),
            "DATA_DIR": str(self.folder),
            "LOG_LEVEL": "INFO",
            "REFRESH_INTERVAL_S": "1",
        }
        os.environ.update(self.environment)
        self.start("sandbox", "manage.py", "sandbox", "--port", str(self._sandbox_port))
        wait_until(lambda: listens(self._sandbox_port), what="the sandbox")

    def begin(self) -> None:
        """Start workers and a beat, when the database is migrated."""
        with (self.folder / "nursery.log").open("ab") as log:
            self._nursery = subprocess.Popen(
                [sys.executable, "-m", "bench.faults.nursery", str(self.folder)],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._watchdog.add(self._nursery.pid, signal.SIGKILL)
        self.refill()
        self.beat()

    def start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start one of our processes; its output goes to `name`.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, **self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watchdog.add(self.running[name].pid, signal.SIGKILL)
        return self.running[name]

    # --- Workers and beats ------------------------------------------------------------------------------------

    def refill(self) -> None:
        """Let there be as many workers as usual again."""
        self.workers = {name: pid for name, pid in self.workers.items() if exists(pid)}
        while len(self.workers) < self._most_workers:
            self._named += 1
            name = f"worker-{self._named}"
            assert self._nursery is not None
            assert self._nursery.stdin is not None
            assert self._nursery.stdout is not None
            self._nursery.stdin.write(name.encode() + b"\n")
            self._nursery.stdin.flush()
            self.workers[name] = int(self._nursery.stdout.readline())
            self._watchdog.add(self.workers[name], signal.SIGKILL)

    def beat(self, name: str = "beat") -> None:
        """Start a beat that proposes every second."""
        self.start(
            name, "-m", "celery", "-A", "portal", "beat", "--pidfile=",
            "--schedule", str(self.folder / f"{name}.schedule"), "--loglevel", "INFO",
        )  # fmt: skip

    def web(self) -> str:
        """Start the web process, and return its address when it answers."""
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        self.environment["PUBLIC_URL"] = address
        self.start(
            "web", "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port),
            "--blocking-threads", "8", "--no-ws", "portal.wsgi:application",
        )  # fmt: skip
        wait_until(lambda: _answers(f"{address}/healthz"), what="the web process")
        return address

    def propose(self, times: int = 1, *, late_s: float = 0) -> None:
        """Propose what beat proposes, without waiting for it. A broker that is away gets nothing, as from beat.

        `late_s`: by how many seconds the clock of the beat that proposes is behind the worker's.
        """
        from kombu.exceptions import OperationalError
        from redis import RedisError

        from portal.celery import app

        life = app.conf.beat_schedule["refresh-due"]["options"]["expires"]
        with suppress(OperationalError, RedisError, OSError):
            for _ in range(times):
                app.send_task(
                    "tokens.tasks.refresh_due", expires=life - late_s, retry=False, ignore_result=True
                )

    def kill(self, group: int) -> None:
        """Kill -9 a process with all its children."""
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        wait_until(lambda: not exists(group), what=f"the end of process {group}")

    # --- Servers ----------------------------------------------------------------------------------------------

    def stop_server(self, name: str) -> Any:
        """Stop PostgreSQL in immediate mode, or kill Valkey; return what `servers.restart` takes."""
        child = next(child for child in self.servers.children if child.name == name)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGQUIT if name == "postgres" else signal.SIGKILL)
        wait_until(lambda: not child.is_running(), what=f"the end of {name}")
        return child

    # --- Moments ----------------------------------------------------------------------------------------------

    def arm(self, moment: str) -> None:
        """Hold the first process that comes to the moment."""
        (self.moments / moment).touch()

    def held(self, moment: str) -> int | None:
        """Return the process that is held there, or None."""
        for file in self.moments.glob(f"{moment}.*"):
            return int(file.suffix[1:])
        return None

    def hold_again(self, moment: str) -> None:
        """Let whoever is held there go on, to be held when it comes there the next time."""
        held = list(self.moments.glob(f"{moment}.*"))
        self.arm(moment)
        for file in held:
            file.unlink(missing_ok=True)

    def release(self) -> None:
        """Let everybody go on, and take all orders back."""
        for file in self.moments.iterdir():
            file.unlink(missing_ok=True)

    def close(self) -> None:
        """End everything."""
        for pid in self.workers.values():
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        for process in self.running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if self._nursery is not None:
            self._nursery.kill()
            self._nursery.communicate()
        self.servers.stop(force=True)
        self._watchdog.close()


def exists(pid: int) -> bool:
    """Tell whether a process is there, not counting one that is only waited for."""
    return _state(pid) not in ("", "Z", "X")


def is_running(pid: int) -> bool:
    """Tell whether a process is there and not stopped."""
    return exists(pid) and _state(pid) != "T"


def _state(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def wait_until(
    condition: Callable[[], Any], *, seconds: float = 60, what: str = "", poll: float = 0.02
) -> Any:
    """Return the condition's value as soon as it is true. Raises TimeoutError with a sentence if it never is."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {seconds} s in vain for {what}.")
        time.sleep(poll)
