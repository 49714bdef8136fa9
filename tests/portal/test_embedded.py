"""The embedded PostgreSQL and Valkey: they start anywhere, keep their data, and never outlive their owner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest
import redis

from portal.embedded import EmbeddedServers, can_hold_sockets
from portal.local.environment import ROOT
from portal.local.errors import InUseError, LocalError
from portal.local.install import Progress, fingerprint
from portal.local.postgres import closed_folders

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER = """
import sys, time
from pathlib import Path
from portal.embedded import EmbeddedServers

servers = EmbeddedServers(Path(sys.argv[1]), is_durable=False)
servers.start()
print(*(child.pid for child in servers.children), flush=True)
time.sleep(60)
"""


def start(folder: Path) -> EmbeddedServers:
    servers = EmbeddedServers(folder, is_durable=False)
    servers.start()
    return servers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServers]:
    """Start servers for the tests that leave them as they were."""
    servers = start(tmp_path_factory.mktemp("embedded") / "data")
    yield servers
    servers.stop()


def other_owner(folder: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """Start the servers in another process, as a killed run would have."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    with owner.stdout:
        pids = owner.stdout.readline().split()
    assert len(pids) == 2
    return owner, [psutil.Process(int(pid)) for pid in pids]


def test_both_servers_answer_at_their_urls(servers):
    with (
        psycopg.connect(servers.database_url) as connection,
        redis.Redis.from_url(servers.redis_url) as client,
    ):
        answer = connection.execute("SELECT current_database(), 6 * 7").fetchone()
        is_alive = client.ping()

    assert answer == ("portal", 42)
    assert is_alive


def test_neither_server_listens_on_the_network(servers):
    listening = [
        connection
        for child in servers.children
        for connection in psutil.Process(child.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert listening == []


def test_the_sockets_are_in_a_folder_that_strangers_cannot_enter(servers):
    mode = (servers.folder / "run").stat().st_mode

    assert mode & 0o777 == 0o700


def test_data_is_still_there_after_a_restart(folder):
    servers = start(folder)
    with psycopg.connect(servers.database_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'yes' AS answer")
    servers.stop()

    servers = start(folder)

    with psycopg.connect(servers.database_url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == ("yes",)
    servers.stop()


def test_stopping_leaves_no_process(folder):
    servers = start(folder)
    processes = [psutil.Process(child.pid) for child in servers.children]
    processes += [child for process in processes for child in process.children(recursive=True)]

    servers.stop()

    assert psutil.wait_procs(processes, timeout=5)[1] == []


def test_two_folders_have_servers_that_do_not_meet(servers, tmp_path):
    other = start(tmp_path / "other")
    with psycopg.connect(other.database_url) as connection:
        connection.execute("CREATE TABLE only_there ()")

    with psycopg.connect(servers.database_url) as connection:
        found = connection.execute("SELECT to_regclass('only_there')").fetchone()

    other.stop()
    assert found == (None,)


def test_a_folder_in_use_is_refused_with_the_owner_named(servers):
    with pytest.raises(InUseError, match=f"in use by process {os.getpid()}"):
        start(servers.folder)


def test_the_watchdog_stops_the_servers_of_a_killed_owner(folder):
    owner, processes = other_owner(folder)

    owner.send_signal(signal.SIGKILL)
    owner.wait()

    assert psutil.wait_procs(processes, timeout=15)[1] == []


def test_leftovers_of_a_killed_owner_and_watchdog_are_replaced(folder):
    owner, processes = other_owner(folder)
    for child in psutil.Process(owner.pid).children():
        if "watchdog" in " ".join(child.cmdline()):
            child.kill()
    owner.send_signal(signal.SIGKILL)
    owner.wait()

    servers = start(folder)

    assert psutil.wait_procs(processes, timeout=5)[1] == []
    with psycopg.connect(servers.database_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    servers.stop()


def test_a_stale_process_id_that_is_someone_elses_by_now_is_forgotten(folder):
    start(folder).stop()
    pid_file = folder / "postgres" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{folder / 'postgres'}\n1\n5432\n/nowhere\n\n0 0\nready\n")

    servers = start(folder)

    with psycopg.connect(servers.database_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    servers.stop()


def test_a_server_that_dies_is_started_again(servers):
    valkey = next(child for child in servers.children if child.name == "valkey")
    os.kill(valkey.pid, signal.SIGKILL)
    while valkey.is_running():
        time.sleep(0.01)

    servers.restart(valkey)

    with redis.Redis.from_url(servers.redis_url) as client:
        assert client.ping()


def test_a_deep_folder_gets_short_sockets_elsewhere_that_go_at_the_end(tmp_path):
    servers = start(tmp_path / "/".join(["a-deep-folder"] * 8))
    with psycopg.connect(servers.database_url) as connection:
        connection.execute("SELECT 1")
    sockets = Path(servers.redis_url.removeprefix("unix://").partition("?")[0]).parent

    servers.stop()

    assert can_hold_sockets(sockets)
    assert not sockets.exists()


def test_a_folder_with_an_odd_name_works(tmp_path):
    servers = start(tmp_path / "Mein Gerät, +1")

    with (
        psycopg.connect(servers.database_url) as connection,
        redis.Redis.from_url(servers.redis_url) as client,
    ):
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert client.ping()
    servers.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become someone else")
def test_root_runs_postgresql_as_someone_else_below_a_private_folder(tmp_path):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)

    servers = start(private / "data")

    postgres = next(child for child in servers.children if child.name == "postgres")
    assert psutil.Process(postgres.pid).uids().real != 0
    assert private.stat().st_mode & 0o777 == 0o700
    servers.stop()


def test_closed_folders_names_what_a_stranger_may_not_enter(tmp_path):
    closed = tmp_path / "closed"
    (closed / "open").mkdir(parents=True)
    closed.chmod(0o750)
    (closed / "open").chmod(0o755)

    found = closed_folders(closed / "open", group=closed.stat().st_gid + 1)

    assert closed in found
    assert closed / "open" not in found


def test_a_folder_that_cannot_be_written_gets_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(LocalError, match=r"Cannot write to .*Set DATA_DIR"):
        start(tmp_path / "file" / "data")


def test_a_cluster_of_another_version_gets_a_sentence(folder):
    (folder / "postgres").mkdir(parents=True)
    (folder / "postgres" / "PG_VERSION").write_text("12\n")

    with pytest.raises(LocalError, match="made by PostgreSQL 12"):
        start(folder)


def test_the_installer_notices_a_changed_requirement(tmp_path, monkeypatch):
    monkeypatch.setattr("portal.local.install.ROOT", tmp_path)
    (tmp_path / "requirements.txt").write_text("Django==5.2.19\n")
    before = fingerprint("requirements.txt")

    (tmp_path / "requirements.txt").write_text("Django==5.2.20\n")

    assert fingerprint("requirements.txt") != before


def test_the_installers_numbers_add_up(tmp_path, monkeypatch):
    monkeypatch.setattr("portal.local.install.VENV", tmp_path)
    progress = Progress(start=1000.0)
    said = []

    for line in (b"Collecting Django==5.2.19", b"  Downloading it", b"Processing /wheels/six-1.17.0.whl"):
        progress.hear(line)
    said.append(progress.words())
    is_news = progress.hear(b"Installing collected packages: six, Django")
    said.append(progress.words())
    for package, at in (("pip-26", 900), ("six-1.17.0", 1001)):
        record = tmp_path / "lib" / "python3.11" / "site-packages" / f"{package}.dist-info" / "RECORD"
        record.parent.mkdir(parents=True)
        record.touch()
        os.utime(record, (at, at))
    said.append(progress.words())

    assert is_news
    assert said == [
        "2 packages fetched so far",
        "2 packages fetched, all there are; unpacking them",
        "1 of 2 packages unpacked",
    ]
