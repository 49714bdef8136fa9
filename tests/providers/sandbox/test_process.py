"""The sandbox as a process: `manage.py sandbox`, its signals, and what it keeps across a restart."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from django.core.management import CommandError, call_command

from providers.sandbox.tokens import CANARY
from tests.providers.sandbox.client import call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MINT = {"client_id": "app", "count": 2}


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command on a free port; the process and its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "manage.py", "sandbox", "--port", str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+?(?=/ )", line)
        assert found, line
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def stop(process: subprocess.Popen[str], how: signal.Signals = signal.SIGTERM) -> float:
    """Send the signal; return how many seconds the process took to end well."""
    begin = time.monotonic()
    process.send_signal(how)
    assert process.wait(5) == 0
    return time.monotonic() - begin


def refresh(url: str, token: str) -> int:
    order = {"grant_type": "refresh_token", "client_id": "app", "client_secret": "s", "refresh_token": token}
    return call(f"{url}/oauth/token", order=order).status


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_at_once_even_while_an_answer_hangs(how: signal.Signals) -> None:
    with running("--access-ttl", "120", "--set", "strict=true") as (process, url):
        switches = call(f"{url}/_sandbox/switches").json
        call(f"{url}/_sandbox/faults", order={"kind": "timeout_before", "on": "/me"})
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as hanging:
            hanging.sendall(b"GET /me HTTP/1.1\r\nHost: x\r\n\r\n")
            while not call(f"{url}/_sandbox/ledger").json["calls"]:
                time.sleep(0.01)
            seconds = stop(process, how)

    assert (switches["access_ttl"], switches["strict"]) == (120, True)
    assert seconds < 2


def test_with_a_state_file_connections_survive_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "sandbox.json"
    with running("--state", str(file)) as (process, url):
        grants = call(f"{url}/_sandbox/mint", order=MINT).json["grants"]
        spent, fresh = (grant["refresh_token"] for grant in grants)
        assert refresh(url, spent) == 200
        stop(process)
    kept = file.read_text()

    with running("--state", str(file), "--set", "strict=true") as (process, url):
        statuses = [refresh(url, fresh), refresh(url, spent)]
        stop(process)

    assert statuses == [200, 403]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert CANARY not in kept
    assert json.loads(kept)["format"] == 1


def test_the_state_file_is_written_soon_after_a_change(tmp_path: Path) -> None:
    file = tmp_path / "sandbox.json"
    with running("--state", str(file)) as (_, url):
        call(f"{url}/_sandbox/mint", order=MINT)
        deadline = time.monotonic() + 5
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.02)

    assert len(json.loads(file.read_text())["grants"]) == 2


def test_a_broken_state_file_is_said_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "sandbox.json"
    file.write_text("{}")

    with pytest.raises(CommandError, match="is not a state file of this sandbox"):
        call_command("sandbox", port=0, state=file)


def test_a_busy_port_is_said_in_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(CommandError, match=r"cannot listen on 127\.0\.0\.1"):
            call_command("sandbox", port=taken.getsockname()[1])


def test_it_is_not_open_to_others_without_a_control_token() -> None:
    with pytest.raises(CommandError, match="--control-token"):
        call_command("sandbox", host="0.0.0.0")


@pytest.mark.parametrize("text", ["strict", "nonsense=1", "pkce=maybe"])
def test_a_wrong_switch_on_the_command_line_is_said_in_a_sentence(text: str) -> None:
    with pytest.raises(CommandError):
        call_command("sandbox", "--set", text)
