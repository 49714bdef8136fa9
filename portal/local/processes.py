"""Child processes that never outlive us and never share our terminal's Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LOG_MAX_BYTES = 10_000_000


class Watchdog:
    """Our link to the watchdog process (see watchdog.py), which outlives us just long enough to stop our children."""

    def __init__(self) -> None:
        # -I and -S: nothing of the project or of the virtual environment is needed, so it is up in 20 ms.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("watchdog.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        # Without its watchdog the portal still works; only kill -9 would leave children behind.
        with suppress(BrokenPipeError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def add(self, group: int, stop_signal: int) -> None:
        self._tell(f"+{group} {int(stop_signal)}")

    def remove(self, group: int) -> None:
        self._tell(f"-{group}")

    def close(self) -> None:
        """Let the watchdog go; it stops whatever was added and not removed."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


class Child:
    """One process, in a session of its own, that writes to a log file."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        watchdog: Watchdog,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_signals: Sequence[tuple[int, float]] = ((signal.SIGTERM, 10.0),),
        user: tuple[int, int] | None = None,
        shows_output: bool = False,
    ) -> None:
        """Describe the process; start() starts it.

        stop_signals: what to send, and how many seconds to wait after each; SIGKILL follows the last.
        user: numeric user and group to run as; only root may give one.
        shows_output: what it prints goes to our terminal, and only its errors go to the log.
        """
        self.name = name
        self.command = list(command)
        self.log = log
        self.started_at = 0.0
        self._watchdog = watchdog
        self._env = dict(env) if env is not None else None
        self._cwd = cwd
        self._stop_signals = list(stop_signals)
        self._user = user
        self._shows_output = shows_output
        self._is_asked = False
        self._process: subprocess.Popen[bytes] | None = None
        self._log_offset = 0

    def start(self) -> None:
        with open_log(self.log) as log:
            self._log_offset = log.tell()
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=None if self._shows_output else log,
                stderr=log,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,
                user=self._user[0] if self._user else None,
                group=self._user[1] if self._user else None,
                extra_groups=[] if self._user else None,
            )
        self.started_at = time.monotonic()
        self._is_asked = False
        self._watchdog.add(self._process.pid, self._stop_signals[0][0])

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def exit_code(self) -> int | None:
        """Return how the process ended, or None while it runs (or was never started)."""
        return self._process.poll() if self._process else None

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ask_to_stop(self) -> None:
        """Send the first stop signal and return at once."""
        if self._process is not None and self._process.poll() is None and not self._is_asked:
            self._is_asked = True
            self._signal(self._stop_signals[0][0])

    def stop(self, *, force: bool = False) -> None:
        """Stop the process and every process that it started; return when they are gone."""
        if self._process is None:
            return
        if not force:
            self.ask_to_stop()
            for step, (number, patience_s) in enumerate(self._stop_signals):
                if step and self._process.poll() is None:
                    self._signal(number)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(patience_s)
        # Also when it ended by itself: its own children may still hold a port.
        self.kill_group()
        self._process.wait()
        self._watchdog.remove(self._process.pid)
        self._process = None

    def kill_group(self) -> None:
        """Kill the process and every process that it started, and do not wait."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self._process.pid, number)

    def last_lines(self, count: int = 15) -> str:
        """Return the end of what the process has written since its latest start."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(self._log_offset, self.log.stat().st_size - 20_000))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-count:])


def open_log(path: Path) -> IO[bytes]:
    """Open a log for appending, readable by its owner alone. A long one moves aside, and the one before it goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_MAX_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
