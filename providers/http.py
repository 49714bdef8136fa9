"""The only door to the outside.

Every call has one hard deadline, a bounded body, TLS that is verified, no redirects and no retries, and reaches only
addresses that may be reached: private ones never, unless the operator named the host (E2, E3, E10). The check stands
where the socket is made, so the address that was checked is the one that is connected to, however it was found.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import ipaddress
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.http_exceptions import HttpProcessingError
from django.conf import settings

from providers.oauth import Answer, NoAnswer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

    from providers.oauth import OutgoingRequest

USER_AGENT = "developer-portal"
# One address gets this long for TCP and TLS, so that a dead one leaves time for the next. The deadline stays above all.
CONNECT_SECONDS = 5
# Servers commonly drop idle connections after 5 s or more. A request on one that is just being dropped is lost, and
# nobody can tell whether it was carried out; so we let go first.
KEEP_ALIVE_SECONDS = 4
DNS_THREADS = 16
# Everything that a network and a peer can do to a call.
FAILURES = (TimeoutError, aiohttp.ClientError, HttpProcessingError, OSError, ValueError)

# What `ipaddress.is_global` lets pass (E3): IPv4 in IPv6 in all its forms, 6to4's relay, and a cloud's own services.
_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "2001::/32",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "192.88.99.0/24",
        "168.63.129.16/32",
    )
]
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


class BlockedAddressError(OSError):
    """A host is on an address that must not be reached."""


@dataclass
class OutgoingCall:
    """How far one call has come."""

    may_be_private: bool
    is_blocked: bool = False
    # From here on the request may have been read by the other side, whatever happens.
    is_connected: bool = False


_call: contextvars.ContextVar[OutgoingCall] = contextvars.ContextVar("outgoing_call")


def is_public(address: str) -> bool:
    """Tell whether an IP address is out on the internet (E3). Raises ValueError for what is none."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    # All of NAT64, IPv4-mapped and -compatible, site-local and unique-local lies outside of global unicast.
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_UNICAST:
        return False
    return not any(ip in network for network in _NOT_PUBLIC)


def may_be_private(host: str) -> bool:
    """Tell whether the operator allowed this host to be on a private address: the sandbox, or a listed host."""
    return host.lower() in _private_hosts(tuple(settings.EGRESS_PRIVATE_HOSTS), settings.SANDBOX_URL)


@functools.cache
def _private_hosts(names: tuple[str, ...], sandbox_url: str) -> frozenset[str]:
    sandbox = [urlsplit(sandbox_url).hostname or ""] if sandbox_url else []
    return frozenset(name.lower() for name in (*names, *sandbox))


def new_session(*, in_flight: int = 10) -> aiohttp.ClientSession:
    """Return a client session with our guards, for `send`. Must be made inside a running loop."""
    connector = _GuardedConnector(
        limit=in_flight,
        resolver=_Resolver(),
        ttl_dns_cache=60,
        keepalive_timeout=KEEP_ALIVE_SECONDS,
        socket_factory=_guarded_socket,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        middlewares=(_send_once,),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
    )


async def send(session: aiohttp.ClientSession, request: OutgoingRequest) -> Answer | NoAnswer:
    """Send one request and read its bounded answer within its deadline. Never raises for what the other side does.

    A request that failed before a connection stood surely did not arrive. After that nobody can know: a reset may
    come before or after the other side has acted on it.
    """
    if not is_allowed(request.url):
        return NoAnswer(is_sent=False, reason="blocked")
    call = begin_call(request.url)
    try:
        async with asyncio.timeout(request.timeout.total_seconds()):
            async with session.request(
                request.method,
                request.url,
                headers=request.headers,
                data=request.body or None,
                allow_redirects=False,
            ) as response:
                return await _read(response, request)
    except FAILURES as error:
        return explain(error, call)


def is_allowed(url: str) -> bool:
    """Tell whether an address may be asked at all: over TLS, unless development says otherwise (B2)."""
    scheme = urlsplit(url).scheme
    return scheme == "https" or (scheme == "http" and bool(settings.EGRESS_PLAIN_HTTP))


def begin_call(url: str) -> OutgoingCall:
    """Note, for the guards, that the current task calls an address. Its context is its own; nothing is to be undone."""
    call = OutgoingCall(may_be_private(urlsplit(url).hostname or ""))
    _call.set(call)
    return call


def explain(error: BaseException, call: OutgoingCall) -> NoAnswer:
    """Say why no answer came, and whether the request may have arrived."""
    match error:
        case TimeoutError():
            return NoAnswer(call.is_connected, "time-out")
        case aiohttp.ClientConnectorDNSError():
            # Nobody could be asked about the name, which is another thing than a name that nobody knows.
            is_known_to_none = error.os_error.errno != socket.EAI_AGAIN
            return NoAnswer(is_sent=False, reason="dns" if is_known_to_none else "no name server")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return NoAnswer(is_sent=False, reason="tls")
        case aiohttp.InvalidURL():
            return NoAnswer(is_sent=False, reason="blocked")
    return NoAnswer(call.is_connected, _reason(call))


def send_blocking(request: OutgoingRequest) -> Answer | NoAnswer:
    """Send one request from a thread that has no event loop (the web process)."""

    async def call() -> Answer | NoAnswer:
        async with new_session(in_flight=1) as session:
            return await send(session, request)

    return asyncio.run(call())


def _reason(call: OutgoingCall) -> str:
    if call.is_connected:
        return "reset"
    return "blocked" if call.is_blocked else "refused"


async def _read(response: aiohttp.ClientResponse, request: OutgoingRequest) -> Answer | NoAnswer:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > request.max_body:
            response.close()
            if not request.is_cut:
                return NoAnswer(is_sent=True, reason="too long")
            del body[request.max_body :]
            break
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status, headers, bytes(body))


class _GuardedConnector(aiohttp.TCPConnector):
    """Notes when a connection stands."""

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109
        connection = await super().connect(req, traces=traces, timeout=timeout)
        _call.get().is_connected = True
        return connection


def _guarded_socket(
    address: tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]],
) -> socket.socket:
    """Make the socket for one address, or refuse to (E2, E3)."""
    family, kind, protocol, _, (host, *_) = address
    call = _call.get()
    if not call.may_be_private and not is_public(host):
        call.is_blocked = True
        raise BlockedAddressError(f"{host} is not an address on the internet")
    return socket.socket(family, kind, protocol)


async def _send_once(
    request: ClientRequest, handler: Callable[[ClientRequest], Awaitable[aiohttp.ClientResponse]]
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET or DELETE again when the connection drops (B10)."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise aiohttp.ClientConnectionError("the connection was dropped") from error


class _Resolver(AbstractResolver):
    """Looks names up in threads of our own: closing a loop waits for its threads, and a name server may hang."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        look_up = functools.partial(
            socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        found = await loop.run_in_executor(_dns_threads(os.getpid()), look_up)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Keep the threads: they are shared."""


@functools.cache
def _dns_threads(process: int) -> ThreadPoolExecutor:
    """Return the threads of one process; a forked worker makes its own."""
    return ThreadPoolExecutor(DNS_THREADS, thread_name_prefix="dns")
