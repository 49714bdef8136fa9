"""The only door to the outside.

Every call has one hard deadline, a bounded body, TLS that is verified, no redirects and no retries, and goes only to
addresses that may be reached: private ones never, unless the operator named the host (E2, E3, E10). The address that
was checked is the one that is connected to, because the check is the resolver.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from django.conf import settings

from providers.oauth import Answer, NoAnswer

if TYPE_CHECKING:
    from providers.oauth import OutgoingRequest

MAX_BODY = 64 * 1024
USER_AGENT = "developer-portal"

_TUNNELS = [
    ipaddress.ip_network(network)
    for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96", "fec0::/10", "::ffff:0:0/96")
]


class BlockedAddressError(OSError):
    """A host resolves to an address that must not be reached."""


def is_public(address: str) -> bool:
    """Tell whether an address is out on the internet (E3).

    `ipaddress.is_global` alone lets NAT64, 6to4, Teredo, site-local, IPv4-compatible and multicast addresses pass.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified:
        return False
    return not (ip.version == 6 and any(ip in network for network in _TUNNELS))


def may_be_private(host: str) -> bool:
    """Tell whether the operator allowed this host to be on a private address: the sandbox, or a listed host."""
    allowed = {name.lower() for name in settings.EGRESS_PRIVATE_HOSTS}
    if settings.SANDBOX_URL:
        allowed.add((urlsplit(settings.SANDBOX_URL).hostname or "").lower())
    return host.lower() in allowed


class _GuardedResolver(AbstractResolver):
    """Resolves a name and refuses if any address must not be reached."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if not may_be_private(host) and not all(is_public(entry["host"]) for entry in found):
            raise BlockedAddressError(host)
        return found

    async def close(self) -> None:
        await self._resolver.close()


def new_session(*, in_flight: int = 10) -> aiohttp.ClientSession:
    """Return a client session with our guards, for `send`. Must be made inside a running loop."""
    connector = aiohttp.TCPConnector(limit=in_flight, resolver=_GuardedResolver(), ttl_dns_cache=60)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
    )


async def send(session: aiohttp.ClientSession, request: OutgoingRequest) -> Answer | NoAnswer:
    """Send one request and read its bounded answer within its deadline. Never raises for what the other side does."""
    if blocked := _refusal(request.url):
        return blocked
    try:
        async with asyncio.timeout(request.timeout.total_seconds()):
            async with session.request(
                request.method,
                request.url,
                headers=request.headers,
                data=request.body or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None),
            ) as response:
                body = await _read_bounded(response)
                if body is None:
                    return NoAnswer(is_sent=True, reason="too long")
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, headers, body)
    except TimeoutError:
        return NoAnswer(is_sent=True, reason="time-out")
    except BlockedAddressError:
        return NoAnswer(is_sent=False, reason="blocked")
    except aiohttp.ClientConnectorDNSError as error:
        return NoAnswer(is_sent=False, reason="blocked" if isinstance(error.os_error, BlockedAddressError) else "dns")
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, ssl.SSLError):
        return NoAnswer(is_sent=False, reason="tls")
    except aiohttp.ClientConnectorError:
        return NoAnswer(is_sent=False, reason="refused")
    except (aiohttp.ClientError, OSError, ValueError):
        return NoAnswer(is_sent=True, reason="reset")


def send_blocking(request: OutgoingRequest) -> Answer | NoAnswer:
    """Send one request from a thread that has no event loop (the web process)."""

    async def call() -> Answer | NoAnswer:
        async with new_session(in_flight=1) as session:
            return await send(session, request)

    return asyncio.run(call())


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes | None:
    """Read the body; None if it is longer than MAX_BODY."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY:
            response.close()
            return None
    return bytes(body)


def _refusal(url: str) -> NoAnswer | None:
    """Refuse plain http (B2) and literal private addresses, which never meet the resolver."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https" and not (parts.scheme == "http" and settings.EGRESS_PLAIN_HTTP):
        return NoAnswer(is_sent=False, reason="blocked")
    try:
        literal = is_public(host)
    except ValueError:
        return None
    return None if literal or may_be_private(host) else NoAnswer(is_sent=False, reason="blocked")
