"""`make run`: the whole portal on this machine, from one command, until Ctrl-C.

    python -m portal.local.up

Starts what DESIGN calls the processes (web, worker, beat, sandbox, and PostgreSQL and Valkey unless URLs are given),
watches them, and stops them all. Nothing is left running, however this process ends.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from portal.embedded import EmbeddedServers
from portal.local import leftovers, ready
from portal.local.children import describe_children
from portal.local.environment import HOST, ROOT, Place, environment, read_place, write_private
from portal.local.errors import LocalError
from portal.local.parent import Parent
from portal.local.processes import Child, Watchdog
from portal.local.progress import box, step

if TYPE_CHECKING:
    from types import FrameType

START_TIMEOUT_S = 60.0
# A process that ends sooner after its start than this is restarted more and more slowly, up to the longest pause.
STABLE_AFTER_S = 30.0
LONGEST_PAUSE_S = 30.0
# A terminal's Ctrl-C can reach us twice, from the terminal and through make; that is still one wish.
DOUBLE_S = 0.5


class Stop(Exception):  # noqa: N818 - it is a wish, not an error.
    """Somebody wants us to stop."""


class Up:
    """One run of everything."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.asked_at: float | None = None
        self.watchdog: Watchdog | None = None
        self.servers: EmbeddedServers | None = None
        self.children: list[Child] = []
        self.env: dict[str, str] = {}
        self.pauses: dict[str, float] = {}
        self.parent = Parent()

    # --- Signals ----------------------------------------------------------------------------------------------

    def listen_to_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup asks us to stay when the terminal goes.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked_at is None:
            self.asked_at = now
        elif number == signal.SIGINT and now - self.asked_at > DOUBLE_S:
            self.kill_everything()

    def sleep(self, seconds: float) -> None:
        """Wait a little; raises Stop if somebody wants us to stop. Every wait of ours comes by here."""
        if self.parent.wants_us_to_stop():
            self.asked_at = self.asked_at or time.monotonic()
        if self.asked_at is not None:
            raise Stop
        time.sleep(seconds)

    # --- The run ----------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run until somebody wants us to stop; return the exit code."""
        self.listen_to_signals()
        lock = None
        try:
            ready.require_data_folder(self.place.data)
            lock = ready.hold_data_folder(self.place.data)
            leftovers.end(self.place.data)
            ready.require_free_ports(self.place)
            ready.note_owner(lock, f"process {os.getpid()}, {self.place.portal_url}")
            self.start()
            self.say_where()
            self.watch()
        except Stop:
            print("\nStopping ...", end=" ", flush=True)
            self.stop()
            print("stopped.", flush=True)
        except LocalError as error:
            print(error, file=sys.stderr, flush=True)
            self.stop()
            return 1
        finally:
            self.stop()
            if lock is not None:
                ready.note_owner(lock, "")
                os.close(lock)
        return 0

    def start(self) -> None:
        """Start everything and return when it answers; raises LocalError if that cannot be."""
        start = time.monotonic()
        data = self.place.data
        (data / "demo.json").unlink(missing_ok=True)
        database_url, redis_url = os.environ.get("DATABASE_URL", ""), os.environ.get("REDIS_URL", "")
        if database_url:
            ready.require_database(database_url)
        if redis_url:
            ready.require_broker(redis_url)
        self.watchdog = Watchdog()
        if not (database_url and redis_url):
            self.servers = EmbeddedServers(
                data, has_postgres=not database_url, has_valkey=not redis_url, watchdog=self.watchdog
            )
            names = ["PostgreSQL"] * (not database_url) + ["Valkey"] * (not redis_url)
            with step("Starting " + " and ".join(names)):
                self.servers.start()
            database_url = database_url or self.servers.database_url
            redis_url = redis_url or self.servers.redis_url
        self.env = environment(self.place, os.environ, database_url=database_url, redis_url=redis_url)
        self.prepare()
        with step("Starting web, worker, beat" + (", sandbox" if self.place.has_sandbox else "")):
            self.children = describe_children(self.place, self.env, self.watchdog)
            for child in self.children:
                child.start()
            leftovers.remember(data, self.children)
            self.wait_until_it_answers()
        if self.place.has_sandbox:
            with step("Connecting the demo's end users"):
                self.connect_demo()
        print(f"  Ready after {time.monotonic() - start:.0f} s.\n", flush=True)

    def prepare(self) -> None:
        """Migrate, collect static files, seed the demo, in a process of its own."""
        log = self.place.data / "logs" / "setup.log"
        setup = self.run_to_the_end("setup", [sys.executable, "-m", "portal.local.prepare", str(log)])
        if setup.exit_code():
            raise LocalError(f"Setting up failed; {log} ends with:\n{setup.last_lines()}")

    def connect_demo(self) -> None:
        """Give the demo a few connections through the sandbox. It does without them if that does not work."""
        demo = self.run_to_the_end("demo", [sys.executable, "manage.py", "connect_demo"])
        if demo.exit_code():
            print(f"\n  That did not work; {demo.log} says why. The demo goes on without.", flush=True)

    def run_to_the_end(self, name: str, command: list[str]) -> Child:
        """Run a command of ours, its output in a log of its name, and wait for it."""
        assert self.watchdog is not None
        log = self.place.data / "logs" / f"{name}.log"
        child = Child(
            name,
            command,
            log=log,
            watchdog=self.watchdog,
            env=self.env,
            cwd=ROOT,
            shows_output=name == "setup",
        )
        self.children.append(child)
        child.start()
        while child.is_running():
            self.sleep(0.05)
        child.stop()
        self.children.remove(child)
        return child

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            for child in self.children:
                if not child.is_running():
                    raise LocalError(f"The {child.name} process {how_it_ended(child)}")
            if time.monotonic() > deadline:
                web = next(child for child in self.children if child.name == "web")
                raise LocalError(
                    f"Nothing answers at {self.place.portal_url} after {START_TIMEOUT_S:.0f} s; "
                    f"{web.log} ends with:\n{web.last_lines()}"
                )
            self.sleep(0.1)

    def _answers(self) -> bool:
        try:
            if self.place.has_sandbox:
                socket.create_connection((HOST, self.place.sandbox_port), timeout=1).close()
            connection = http.client.HTTPConnection(HOST, self.place.port, timeout=5)
            try:
                connection.request("GET", "/healthz")
                return connection.getresponse().status == http.HTTPStatus.OK
            finally:
                connection.close()
        except (OSError, http.client.HTTPException):
            return False

    def say_where(self) -> None:
        """Print the box, and write what it says to demo.json for scripts."""
        place = self.place
        facts = {
            "portal_url": place.portal_url,
            "sandbox_url": place.sandbox_url,
            "email": self.env["DEMO_EMAIL"],
            "password": self.env["DEMO_PASSWORD"],
        }
        write_private(place.data / "demo.json", json.dumps(facts, indent=2) + "\n")
        lines = [
            f"The portal is at   {self.env['PUBLIC_URL']}",
            f"Sign in as         {facts['email']}",
            f"with the password  {facts['password']}",
            "",
        ]
        if place.has_sandbox:
            lines += [
                "First: open Acme Tasks > OAuth Providers > Add Provider > Atlassian.",
                "Then click Test connection, and watch it under Connections: access",
                "tokens live two minutes here, so you can see them being refreshed.",
                "Acme Wiki is set up already, with a few connections to look at.",
                f"The sandbox at {place.sandbox_url} plays Atlassian.",
            ]
        else:
            lines += [
                "First: open Acme Tasks > OAuth Providers > Add Provider > Atlassian.",
                "SANDBOX=off: this talks to the real Atlassian.",
            ]
            if self.env["PUBLIC_URL"] == place.portal_url:
                lines += [
                    "It sends people back to https addresses and to http://localhost alone:",
                    f"start this with PUBLIC_URL=http://localhost:{place.port} as well.",
                ]
        lines += ["", f"Logs: {short(place.data / 'logs')}   Stop: Ctrl-C"]
        print(box(lines), flush=True)

    # --- Watching ---------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Restart what dies, until somebody wants us to stop."""
        due: dict[str, float] = {}
        while True:
            self.sleep(0.25)
            for child in self.servers.children if self.servers else []:
                if not child.is_running():
                    print(f"\nThe {child.name} process {how_it_ended(child)}", file=sys.stderr, flush=True)
                    assert self.servers is not None
                    self.servers.restart(child)
                    print(f"It runs again: {child.name}.", file=sys.stderr, flush=True)
            for child in self.children:
                if child.is_running():
                    continue
                if child.name not in due:
                    pause = self._pause(child)
                    due[child.name] = time.monotonic() + pause
                    print(f"\nThe {child.name} process {how_it_ended(child)}", file=sys.stderr)
                    print(f"Starting it again in {pause:.0f} s.", file=sys.stderr, flush=True)
                elif time.monotonic() >= due[child.name]:
                    del due[child.name]
                    child.stop(force=True)
                    child.start()
                    leftovers.remember(self.place.data, self.children)

    def _pause(self, child: Child) -> float:
        """Return the seconds to wait before a restart: one, and twice as long for each further early death."""
        if time.monotonic() - child.started_at > STABLE_AFTER_S:
            self.pauses.pop(child.name, None)
        pause = self.pauses.get(child.name, 1.0)
        self.pauses[child.name] = min(pause * 2, LONGEST_PAUSE_S)
        return pause

    # --- Stopping ---------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop everything, first what leans on the databases, then those; return when all is gone."""
        self.asked_at = self.asked_at or time.monotonic()
        if self.watchdog is None:
            return
        # Only while it is true: a script that finds the file finds a running portal.
        (self.place.data / "demo.json").unlink(missing_ok=True)
        for child in self.children:
            child.ask_to_stop()
        for child in self.children:
            child.stop()
        if self.servers is not None:
            self.servers.stop()
        self.watchdog.close()
        self.watchdog = None
        leftovers.forget(self.place.data)

    def kill_everything(self) -> NoReturn:
        """End now. What is left is the watchdog's, so nothing can be in the way of leaving."""
        for child in self.children:
            child.kill_group()
        print("killed.", flush=True)
        os._exit(130)


def how_it_ended(child: Child) -> str:
    code = child.exit_code()
    how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"
    return f"{how}; {child.log} ends with:\n{child.last_lines()}"


def short(path: Path) -> str:
    """Return the path as seen from where we are, if that is below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def main() -> int:
    # Mail, logs and the database are for their owner's eyes only.
    os.umask(0o077)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        place = read_place(os.environ)
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1
    return Up(place).run()


if __name__ == "__main__":
    sys.exit(main())
