"""Ranges of IP addresses in CIDR notation, such as 203.0.113.0/24: where an API key may be used from."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MOST_NETWORKS = 50
# "ffff:…:ffff/128", written out.
MAX_LENGTH = 43


class NetworkError(ValueError):
    """A text is not a range that we accept; the message says why, and what to write instead."""


def normalise_network(text: str) -> str:
    """Return a range in its one usual spelling; a single address is a range of one. Raises NetworkError."""
    text = text.strip()
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise NetworkError("is not an IP range; write it like 203.0.113.0/24 or 2001:db8::/48") from None
    raise NetworkError(f"begins at another address than it says; write {meant}")


def is_inside(address: str | None, networks: Iterable[str]) -> bool:
    """Tell whether an address is in one of some ranges; an unknown one is in none."""
    if address is None:
        return False
    found: Address = ipaddress.ip_address(address)
    # How a socket that takes both kinds shows an IPv4 caller.
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    return any(found in ipaddress.ip_network(network) for network in networks)
