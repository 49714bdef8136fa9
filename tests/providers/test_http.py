"""What the door out makes of everything that a network can do to a call, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from providers import http, oauth
from providers.oauth import Answer, NoAnswer, OutgoingRequest
from providers.spec import Endpoint
from tests.providers.peer import BODY, Peer, answering, read_request, reply, reset

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("loopback_allowed")


def test_an_answer_is_brought_home_with_its_status_headers_and_body():
    with Peer(answering(reply(b'{"a":1}', status="418 Teapot", headers="X-Id: 7\r\n"))) as peer:
        answer = http.send_blocking(peer.request())

    assert isinstance(answer, Answer)
    assert (answer.status, answer.headers["x-id"], answer.body) == (418, "7", b'{"a":1}')
    (request,) = peer.received
    assert request.endswith(BODY)
    assert b"X-Test: yes" in request


def test_a_request_carries_no_cookies_and_asks_for_no_compression():
    cookie = reply(headers="Set-Cookie: a=b\r\n")

    async def twice(peer: Peer) -> None:
        async with http.new_session() as session:
            await http.send(session, peer.request())
            await http.send(session, peer.request())

    with Peer(answering(cookie)) as peer:
        asyncio.run(twice(peer))

    assert b"cookie" not in peer.received[1].lower()
    assert b"accept-encoding: identity" in peer.received[1].lower()


def test_nobody_listening_was_surely_not_sent():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    answer = http.send_blocking(OutgoingRequest("POST", f"http://127.0.0.1:{port}/", {}, BODY))

    assert answer == NoAnswer(is_sent=False, reason="refused")


def test_an_unknown_host_was_surely_not_sent():
    answer = http.send_blocking(OutgoingRequest("POST", "http://nowhere.invalid/", {}, BODY))

    assert answer == NoAnswer(is_sent=False, reason="dns")


def test_a_name_that_nobody_could_be_asked_about_is_told_from_one_that_nobody_knows(monkeypatch):
    def fail(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(http.socket, "getaddrinfo", fail)

    answer = http.send_blocking(OutgoingRequest("POST", "http://nowhere.invalid/", {}, BODY))

    assert answer == NoAnswer(is_sent=False, reason="no name server")


def test_a_host_that_does_not_finish_connecting_was_surely_not_sent():
    # A full backlog: the kernel accepts no more, and the connection stays half open.
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        request = OutgoingRequest("POST", f"http://127.0.0.1:{address[1]}/", {}, BODY, timedelta(seconds=1))

        answer = http.send_blocking(request)

        for filler in fillers:
            filler.close()
    assert answer == NoAnswer(is_sent=False, reason="time-out")


def test_waiting_for_a_free_connection_until_the_deadline_was_surely_not_sent():
    def slow(peer: Peer, connection: socket.socket) -> None:
        peer.read(connection)
        peer.stopping.wait(5)

    async def two(peer: Peer) -> list[Answer | NoAnswer]:
        async with http.new_session(in_flight=1) as session:
            first = asyncio.create_task(http.send(session, peer.request(seconds=1.5)))
            await asyncio.sleep(0.2)
            return [await http.send(session, peer.request(seconds=0.5)), await first]

    with Peer(slow) as peer:
        second, first = asyncio.run(two(peer))

    assert second == NoAnswer(is_sent=False, reason="time-out")
    assert first == NoAnswer(is_sent=True, reason="time-out")


def _close_after_the_request(peer: Peer, connection: socket.socket) -> None:
    peer.read(connection)
    reset(connection)


def _close_in_the_head(peer: Peer, connection: socket.socket) -> None:
    peer.read(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")


def _close_in_the_body(peer: Peer, connection: socket.socket) -> None:
    peer.read(connection)
    connection.sendall(reply(b'{"access_token":"abc"}')[:-5])


@pytest.mark.parametrize("behave", [_close_after_the_request, _close_in_the_head, _close_in_the_body])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_connection_dropped_once_it_stood_is_ambiguous_and_never_tried_again(
    behave: Callable[[Peer, socket.socket], None], method: str
):
    with Peer(behave) as peer:
        answer = http.send_blocking(peer.request(method))

        time.sleep(0.1)
        assert peer.connections == 1
    assert answer == NoAnswer(is_sent=True, reason="reset")


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_connection_reset_as_soon_as_it_stood_is_never_tried_again(method: str):
    with Peer(lambda peer, connection: reset(connection)) as peer:
        answer = http.send_blocking(peer.request(method))

        time.sleep(0.1)
        assert peer.connections == 1
        assert peer.received == []
    # Whether the reset is seen while connecting or just after is the kernel's choice; both say the truth.
    assert answer in (NoAnswer(is_sent=False, reason="refused"), NoAnswer(is_sent=True, reason="reset"))


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_a_kept_alive_connection_that_is_dropped_is_ambiguous_and_never_tried_again(method: str):
    # The client can't tell a server that closed an idle connection from one that died while it was acting.
    def answer_then_drop(peer: Peer, connection: socket.socket) -> None:
        peer.read(connection)
        connection.sendall(reply())
        peer.read(connection)
        reset(connection)

    async def two(peer: Peer) -> list[Answer | NoAnswer]:
        async with http.new_session() as session:
            return [await http.send(session, peer.request(method)) for _ in range(2)]

    with Peer(answer_then_drop) as peer:
        first, second = asyncio.run(two(peer))

        time.sleep(0.1)
        assert peer.connections == 1
        assert len(peer.received) == 2
    assert isinstance(first, Answer)
    assert second == NoAnswer(is_sent=True, reason="reset")


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again():
    def one_answer(peer: Peer, connection: socket.socket) -> None:
        peer.read(connection)
        connection.sendall(reply())

    async def two(peer: Peer) -> list[Answer | NoAnswer]:
        async with http.new_session() as session:
            first = await http.send(session, peer.request())
            await asyncio.sleep(0.2)
            return [first, await http.send(session, peer.request())]

    with Peer(one_answer) as peer:
        answers = asyncio.run(two(peer))

        assert peer.connections == 2
    assert all(isinstance(answer, Answer) for answer in answers)


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n\r\n",
        b"HTTP/9.9 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX-\xff\xfe: \x00\r\n\r\n",
        b"\x00" * 1000,
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nLocation: http://[\r\nSet-Cookie: \xff=\x01\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_garbage_in_place_of_an_answer_never_raises(garbage: bytes):
    def babble(peer: Peer, connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(garbage)

    with Peer(babble) as peer:
        answer = http.send_blocking(peer.request(seconds=2))

    assert isinstance(answer, Answer) or answer.is_sent


def test_a_hanging_name_server_does_not_outlast_the_deadline(monkeypatch: pytest.MonkeyPatch):
    look_up = socket.getaddrinfo

    def hang(host: str, *args: object, **kwargs: object) -> object:
        time.sleep(3)
        return look_up("127.0.0.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    request = OutgoingRequest("POST", "http://slow.example/", {}, BODY, timedelta(seconds=0.5))
    begin = time.monotonic()

    answer = http.send_blocking(request)

    assert answer == NoAnswer(is_sent=False, reason="time-out")
    assert time.monotonic() - begin < 1


def test_a_list_of_sites_may_be_longer_than_a_token_answer():
    body = b"[" + b" " * 200_000 + b"]"
    with Peer(answering(reply(body))) as peer:
        answer = http.send_blocking(oauth.bearer_request(Endpoint(peer.url()), "token"))

    assert isinstance(answer, Answer)
    assert answer.body == body
