"""E2, E3, E10: where requests may go, and who may make them."""

from __future__ import annotations

import ast
import asyncio
import socket
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from providers import http
from providers.oauth import Answer, NoAnswer, OutgoingRequest
from tests.providers.peer import BODY, Peer, answering, reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(http.__file__).parent.parent

NOT_PUBLIC = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "168.63.129.16",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "185.166.143.1", "2606:4700:4700::1111", "2a00:1450:4001:80b::200e"]


@pytest.fixture
def plain_http(settings: Any) -> None:
    """Allow plain http, but no private address: what these tests are about is the address."""
    settings.EGRESS_PLAIN_HTTP = True
    settings.EGRESS_PRIVATE_HOSTS = []
    settings.SANDBOX_URL = ""


@pytest.fixture
def trap() -> Iterator[Peer]:
    """Wait on loopback for a request that must never come."""
    with Peer(answering(reply())) as peer:
        yield peer


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Answer name look-ups with the given addresses, one list a look-up; the last one goes on."""

    def answer_with(*answers: list[str]) -> list[str]:
        asked: list[str] = []
        waiting = list(answers)

        def look_up(host: str, port: int, *args: object, **kwargs: object) -> list[Any]:
            asked.append(host)
            addresses = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            return [
                (
                    socket.AF_INET6 if ":" in address else socket.AF_INET,
                    socket.SOCK_STREAM,
                    socket.IPPROTO_TCP,
                    "",
                    (address, port, 0, 0) if ":" in address else (address, port),
                )
                for address in addresses
            ]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        return asked

    return answer_with


def _ask(url: str) -> Answer | NoAnswer:
    return http.send_blocking(OutgoingRequest("POST", url, {}, BODY))


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_e3_an_address_that_is_not_on_the_internet_is_told_apart(address: str):
    assert not http.is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_e3_an_address_on_the_internet_is_let_through(address: str):
    assert http.is_public(address)


@pytest.mark.usefixtures("plain_http")
@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_e3_a_name_that_leads_to_such_an_address_is_refused(address: str, names: Any, trap: Peer):
    names([address])

    answer = _ask(f"http://provider.example:{trap.port}/token")

    assert answer == NoAnswer(is_sent=False, reason="blocked")
    assert trap.connections == 0


@pytest.mark.usefixtures("plain_http")
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "017700000001",
        "127.0.0.1.",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "①②⑦.⓪.⓪.①",
        "0",
    ],
)
def test_e3_loopback_is_refused_however_it_is_written(host: str, trap: Peer):
    answer = _ask(f"http://{host}:{trap.port}/token")

    assert isinstance(answer, NoAnswer)
    assert not answer.is_sent
    assert trap.connections == 0


@pytest.mark.usefixtures("plain_http")
def test_e3_one_private_address_among_public_ones_is_never_connected_to(names: Any, trap: Peer):
    # The public one is a documentation address' neighbour that nobody answers on: what matters is where we knock.
    names(["203.0.114.1", "127.0.0.1", "::1"])

    answer = http.send_blocking(
        OutgoingRequest("POST", f"http://mixed.example:{trap.port}/", {}, BODY, timedelta(seconds=1))
    )

    assert isinstance(answer, NoAnswer)
    assert not answer.is_sent
    assert trap.connections == 0


@pytest.mark.usefixtures("plain_http")
def test_e2_a_name_that_moves_to_loopback_between_two_calls_is_refused(names: Any, trap: Peer):
    names(["203.0.114.1"], ["127.0.0.1"])
    request = OutgoingRequest(
        "POST", f"http://rebinding.example:{trap.port}/", {}, BODY, timedelta(seconds=0.5)
    )

    first, second = http.send_blocking(request), http.send_blocking(request)

    assert isinstance(first, NoAnswer)
    assert second == NoAnswer(is_sent=False, reason="blocked")
    assert trap.connections == 0


@pytest.mark.usefixtures("plain_http")
def test_e2_the_address_that_was_looked_up_is_the_one_connected_to(names: Any, trap: Peer, settings: Any):
    settings.EGRESS_PRIVATE_HOSTS = ["gitlab.internal"]
    asked = names(["127.0.0.1"], ["127.0.0.2"])

    answer = _ask(f"http://gitlab.internal:{trap.port}/token")

    assert isinstance(answer, Answer)
    assert asked == ["gitlab.internal"]
    assert b"Host: gitlab.internal" in trap.received[0]


@pytest.mark.usefixtures("plain_http")
def test_e2_a_host_that_may_be_private_opens_no_way_to_others(names: Any, trap: Peer, settings: Any):
    settings.EGRESS_PRIVATE_HOSTS = ["gitlab.internal"]
    names(["127.0.0.1"])

    async def both() -> list[Answer | NoAnswer]:
        async with http.new_session() as session:
            urls = [f"http://{host}:{trap.port}/" for host in ("gitlab.internal", "evil.example")]
            return list(
                await asyncio.gather(
                    *(http.send(session, OutgoingRequest("POST", url, {}, BODY)) for url in urls)
                )
            )

    allowed, refused = asyncio.run(both())

    assert isinstance(allowed, Answer)
    assert refused == NoAnswer(is_sent=False, reason="blocked")
    assert trap.connections == 1


# Reading and writing URLs is no talking; everything else of these packages is.
CLIENTS = {"aiohttp", "httpx", "requests", "urllib3", "httpcore", "http.client", "urllib.request", "ftplib"}
# portal/local asks the web process that `make run` has just started whether it is up: never part of a server.
NO_PROVIDER = ("providers/sandbox/", "portal/local/")


def test_e10_no_other_module_can_talk_to_the_outside():
    talking = {
        name
        for folder in ("portal", "providers", "tokens")
        for file in (ROOT / folder).rglob("*.py")
        if not (name := file.relative_to(ROOT).as_posix()).startswith(NO_PROVIDER)
        and _imports(file) & CLIENTS
    }

    # http_stream.py and the delivery of webhooks use the sessions that it makes and guards.
    assert talking == {"providers/http.py"}


def _imports(file: Path) -> set[str]:
    """Return the modules that a file imports, each with the packages it is in."""
    names: set[str] = set()
    tree = ast.parse(file.read_text())
    # With a type alone nobody talks.
    typing = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names | {name.split(".")[0] for name in names}
