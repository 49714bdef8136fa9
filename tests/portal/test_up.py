"""`make run`: everything starts, says where it is, is watched, and leaves nothing behind."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psutil
import pytest

from portal.local.environment import ROOT, Place, environment, own_secrets, read_place
from portal.local.errors import InUseError, LocalError
from portal.local.ready import (
    hold_data_folder,
    require_broker,
    require_data_folder,
    require_database,
    require_free_ports,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 90.0


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


def place_in(folder: Path) -> Place:
    port, sandbox_port = free_ports(2)
    return Place(data=folder, port=port, sandbox_port=sandbox_port, has_sandbox=True)


@contextmanager
def signals_as_in_a_terminal() -> Iterator[None]:
    """Let what is started here hear Ctrl-C and SIGHUP: background jobs and nohup ignore them, and hand that on."""
    ours = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in ours.items():
        signal.signal(number, handler)


class Run:
    """A `make run` of our own, without make; or another program that runs as that does."""

    def __init__(self, place: Place, program: str = "portal.local.up") -> None:
        self.place = place
        self.output = place.data.with_name(f"output-{place.port}")
        ours = ("PATH", "HOME", "TMPDIR", "LANG")
        env = {name: os.environ[name] for name in ours if name in os.environ}
        env |= {"DATA_DIR": str(place.data), "PORT": str(place.port), "SANDBOX_PORT": str(place.sandbox_port)}
        with self.output.open("w") as output, signals_as_in_a_terminal():
            self.process = subprocess.Popen(
                [sys.executable, "-m", program], cwd=ROOT, env=env, stdout=output, stderr=output
            )

    @property
    def demo_file(self) -> Path:
        return self.place.data / "demo.json"

    def wait_until_up(self) -> None:
        self.wait_until(self.demo_file.exists)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait for as long as this runs; fail with what it has said if that is in vain."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert self.process.poll() is None, f"It ended:\n{self.said()}"
            assert time.monotonic() < deadline, f"Waited {PATIENCE_S} s in vain:\n{self.said()}"
            time.sleep(0.1)

    def said(self) -> str:
        """Return what it has printed, and the end of each log."""
        logs = (log.read_text(errors="replace").splitlines()[-20:] for log in self.place.data.glob("logs/*"))
        return "\n".join([self.output.read_text(), *("\n".join(lines) for lines in logs)])

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, word: str) -> psutil.Process:
        """Return the direct child with the word in its command."""
        return next(child for child in self.children() if word in child.cmdline() or word in child.name())

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.place.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def kill(self) -> None:
        """End what a test has left; its watchdog ends the rest."""
        self.process.kill()
        self.process.wait()


def gone(processes: list[psutil.Process]) -> bool:
    return psutil.wait_procs(processes, timeout=20)[1] == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Start everything once for the tests that only look at it. That Ctrl-C stops it all is tested at the end."""
    run = Run(place_in(tmp_path_factory.mktemp("up") / "data"))
    try:
        run.wait_until_up()
        yield run
        family = run.family()
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(PATIENCE_S) == 0, run.said()
        assert gone(family)
    finally:
        run.kill()


@pytest.fixture
def quick_run(tmp_path: Path) -> Iterator[Callable[[], Run]]:
    """Return a function that starts what is stopped like `make run` and is up sooner; always in the same place."""
    place = place_in(tmp_path / "data")
    runs = []

    def start() -> Run:
        runs.append(Run(place, "tests.portal.quick_up"))
        return runs[-1]

    yield start
    for run in runs:
        run.kill()


# --- A run ---------------------------------------------------------------------------------------------------------


def test_a_page_answers_once_the_box_is_printed(run):
    status, page = run.get("/accounts/login/")

    assert status == 200
    assert "<form" in page


def test_demo_json_says_what_the_box_says_to_its_owner_alone(run):
    said = json.loads(run.demo_file.read_text())

    assert said["portal_url"] == run.place.portal_url
    assert said["sandbox_url"] == run.place.sandbox_url
    assert all(said[name] in run.output.read_text() for name in ("portal_url", "email", "password"))
    assert run.demo_file.stat().st_mode & 0o777 == 0o600


def test_nothing_that_a_run_writes_is_open_to_others(run):
    secret_files = [run.place.data / "secrets.env", *(run.place.data / "logs").iterdir()]

    modes = {path.name: path.stat().st_mode & 0o077 for path in secret_files}

    assert set(modes.values()) == {0}


def test_a_second_run_in_the_same_folder_is_told_so(run):
    second = Run(place_in(run.place.data))

    code = second.process.wait(PATIENCE_S)

    assert code == 1
    said = second.output.read_text()
    assert "The portal already runs from" in said
    assert run.place.portal_url in said
    assert len(said.splitlines()) == 1


def test_a_process_that_dies_is_started_again(run):
    beat = run.child("beat")

    beat.kill()

    run.wait_until(lambda: "The beat process was killed by signal 9" in run.output.read_text())
    run.wait_until(lambda: any("beat" in child.cmdline() for child in run.children()))


# --- The end of a run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_everything_and_leaves_nothing(quick_run, number):
    run = quick_run()
    run.wait_until_up()
    family = run.family()

    run.process.send_signal(number)

    assert run.process.wait(PATIENCE_S) == 0
    assert gone(family)
    assert not run.demo_file.exists()


def test_a_killed_run_leaves_nothing(quick_run):
    run = quick_run()
    run.wait_until_up()
    family = run.family()

    run.kill()

    assert gone(family)


def test_leftovers_of_a_run_whose_watchdog_was_killed_too_are_ended_by_the_next(quick_run):
    run = quick_run()
    run.wait_until_up()
    family = run.family()
    watchdog = next(child for child in family if "watchdog" in " ".join(child.cmdline()))

    watchdog.kill()
    run.kill()
    run.demo_file.unlink()
    quick_run().wait_until_up()

    assert gone(family)


def test_a_signal_during_the_start_stops_what_is_there_already(tmp_path):
    run = Run(place_in(tmp_path / "data"))
    run.wait_until(lambda: "Migrating" in run.output.read_text())
    family = run.family()

    run.process.send_signal(signal.SIGTERM)

    assert run.process.wait(PATIENCE_S) == 0
    assert gone(family)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows it")
def test_make_that_is_interrupted_alone_takes_us_with_it(tmp_path):
    makefile = tmp_path / "Makefile"
    watch = (
        "import time; from portal.local.parent import Parent; p = Parent(); print('watching', flush=True)\n"
    )
    (tmp_path / "watch.py").write_text(watch + "while not p.wants_us_to_stop(): time.sleep(0.05)\n")
    makefile.write_text(f"run:\n\t@PYTHONPATH={ROOT} exec {sys.executable} {tmp_path / 'watch.py'}\n")
    with signals_as_in_a_terminal():
        make = subprocess.Popen(["make", "-f", makefile], stdout=subprocess.PIPE)
    assert make.stdout is not None
    with make.stdout:
        while make.stdout.readline() != b"watching\n":
            pass

        make.send_signal(signal.SIGINT)

        assert make.wait(PATIENCE_S) != 0


# --- What must be right first --------------------------------------------------------------------------------------


def test_a_busy_port_is_named_with_a_free_one(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        place = Place(tmp_path, port, free_ports(1)[0], has_sandbox=True)

        with pytest.raises(LocalError, match=rf"Port {port} is in use.*: PORT=\d+ make run"):
            require_free_ports(place)


def test_a_busy_sandbox_port_is_named_by_its_own_name(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        place = Place(tmp_path, free_ports(1)[0], busy.getsockname()[1], has_sandbox=True)

        with pytest.raises(LocalError, match=r": SANDBOX_PORT=\d+ make run"):
            require_free_ports(place)


@pytest.mark.parametrize("value", ["http", "0", "65536", "-1"])
def test_a_port_that_is_none_gets_a_sentence(value):
    with pytest.raises(LocalError, match=f"PORT={value} is not a port"):
        read_place({"PORT": value})


def test_one_port_cannot_be_both():
    with pytest.raises(LocalError, match="both 8001"):
        read_place({"PORT": "8001"})


def test_without_the_sandbox_providers_are_reached_for_real(tmp_path):
    place = read_place({"SANDBOX": "off", "DATA_DIR": str(tmp_path)})

    env = environment(place, {}, database_url="postgres:///x", redis_url="redis://x")

    assert env["SANDBOX_URL"] == ""


def test_an_unreachable_database_gets_a_sentence_without_its_password():
    port = free_ports(1)[0]

    with pytest.raises(LocalError, match=r"DATABASE_URL does not answer \(127.0.0.1, database x\)") as caught:
        require_database(f"postgres://me:CANARY-7f3a@127.0.0.1:{port}/x")

    assert "CANARY" not in str(caught.value)


def test_a_database_that_answers_is_taken():
    require_database(os.environ["DATABASE_URL"])


@pytest.mark.parametrize("url", ["sqlite:///x", "nonsense", "mysql://h/x", "postgres://h:port/x"])
def test_a_database_url_that_is_none_gets_a_sentence(url):
    with pytest.raises(LocalError, match="DATABASE_URL cannot be read"):
        require_database(url)


def test_an_unreachable_broker_gets_a_sentence_without_its_password():
    port = free_ports(1)[0]

    with pytest.raises(LocalError, match=r"REDIS_URL does not answer \(127.0.0.1\)") as caught:
        require_broker(f"redis://:CANARY-7f3a@127.0.0.1:{port}/0")

    assert "CANARY" not in str(caught.value)


def test_a_broker_url_that_is_none_gets_a_sentence():
    with pytest.raises(LocalError, match="REDIS_URL cannot be read"):
        require_broker("amqp://127.0.0.1")


def test_a_data_folder_that_cannot_be_made_gets_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(LocalError, match=r"Cannot write to .*Set DATA_DIR"):
        require_data_folder(tmp_path / "file" / "data")


def test_a_data_folder_is_held_by_one_run_at_a_time(tmp_path):
    lock = hold_data_folder(tmp_path)

    with pytest.raises(InUseError, match="already runs"):
        hold_data_folder(tmp_path)

    os.close(lock)
    os.close(hold_data_folder(tmp_path))


# --- Secrets -------------------------------------------------------------------------------------------------------


def test_secrets_are_made_once_and_are_their_owners_alone(tmp_path):
    first = own_secrets(tmp_path)

    second = own_secrets(tmp_path)

    assert first == second
    assert set(first) == {"SECRET_KEY", "ENCRYPTION_KEYS", "DEMO_PASSWORD", "INSTANCE_ID"}
    assert (tmp_path / "secrets.env").stat().st_mode & 0o777 == 0o600


def test_two_folders_have_different_secrets(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    a, b = own_secrets(tmp_path / "a"), own_secrets(tmp_path / "b")

    assert not set(a.values()) & set(b.values())


def test_what_the_callers_environment_says_wins(tmp_path):
    place = read_place({"DATA_DIR": str(tmp_path)})

    env = environment(place, {"DEMO_PASSWORD": "mine"}, database_url="postgres:///x", redis_url="redis://x")

    assert env["DEMO_PASSWORD"] == "mine"
    assert env["PUBLIC_URL"] == place.portal_url


def test_a_command_beside_make_run_says_that_there_is_no_data_yet(tmp_path):
    command = [sys.executable, "-m", "portal.local.manage", "check"]
    nowhere = {**os.environ, "DATA_DIR": str(tmp_path / "none")}

    done = subprocess.run(command, cwd=ROOT, env=nowhere, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "start `make run` once" in done.stderr
