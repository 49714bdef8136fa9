"""The door to the outside for bodies that stream; what passes it is shown in tests/security/test_proxy.py."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from providers import http_stream
from providers.http_stream import StreamFailedError, open_stream
from tests.providers.peer import Peer, answering, reply

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

THREADS = 16


def test_the_first_calls_of_a_process_share_one_loop_however_many_come_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_stream.atexit, "register", lambda *_: None)
    together = threading.Barrier(THREADS)

    def first_call(process: int) -> int:
        together.wait()
        return id(http_stream._loop(process))

    with ThreadPoolExecutor(THREADS) as pool:
        # Of processes that there are none of.
        loops = [set(pool.map(first_call, [process] * THREADS)) for process in (-1, -2, -3)]
    for process in (-1, -2, -3):
        loop = http_stream._loops.pop(process)
        loop.call_soon_threadsafe(loop.stop)
        while loop.is_running():
            time.sleep(0.001)
        loop.close()

    assert [len(found) for found in loops] == [1, 1, 1]


@pytest.fixture
def _plain_http(settings: Any) -> None:
    settings.EGRESS_PLAIN_HTTP = True
    settings.EGRESS_PRIVATE_HOSTS = ["127.0.0.1"]


def wait_for_the_end(connection: socket.socket) -> bool:
    """Tell whether the other side hangs up within three seconds."""
    connection.settimeout(3)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False


@pytest.mark.usefixtures("_plain_http")
def test_b10_a_call_whose_first_part_never_comes_hangs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_stream, "HEAD_SECONDS", 0.3)
    ends: list[bool] = []

    def only_a_head(peer: Peer, connection: socket.socket) -> None:
        peer.read(connection)
        connection.sendall(reply(b"x" * 10)[:-10])
        ends.append(wait_for_the_end(connection))
        peer.stopping.set()

    with Peer(only_a_head) as peer:
        with pytest.raises(StreamFailedError, match="time-out"):
            open_stream("GET", peer.url(), {})
        peer.stopping.wait(5)

    assert ends == [True]


@pytest.mark.usefixtures("_plain_http")
def test_e7_a_body_that_is_sent_too_slowly_ends_at_the_deadline() -> None:
    def slowly() -> Iterator[bytes]:
        for _ in range(50):
            time.sleep(0.1)
            yield b"x"

    with Peer(lambda peer, _: bool(peer.stopping.wait(5))) as peer:
        started = time.monotonic()
        with pytest.raises(StreamFailedError, match="deadline") as failed:
            open_stream("POST", peer.url(), {}, slowly(), time.monotonic() + 0.5)

    assert time.monotonic() - started < 3
    assert failed.value.why.is_sent


@pytest.mark.usefixtures("_plain_http")
def test_e7_an_answer_that_is_read_too_slowly_ends_at_the_deadline_although_more_is_there() -> None:
    with Peer(answering(reply(b"x" * 5_000_000))) as peer:
        parts = iter(open_stream("GET", peer.url(), {}, None, time.monotonic() + 0.5))
        next(parts)
        time.sleep(0.6)
        with pytest.raises(StreamFailedError, match="deadline"):
            b"".join(parts)


@pytest.mark.usefixtures("_plain_http")
def test_e7_a_deadline_that_is_over_sends_nothing() -> None:
    with Peer(answering(reply())) as peer, pytest.raises(StreamFailedError, match="deadline"):
        open_stream("GET", peer.url(), {}, None, time.monotonic() - 1)

    assert peer.received == []
