"""Exact origins, such as https://app.example.com: where end users may be sent back to (A12)."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

DEFAULT_PORTS = {"https": 443, "http": 80}
MAX_LENGTH = 255
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")


class OriginError(ValueError):
    """A text is not an origin that we accept; the message says why, and what to write instead."""


def normalise_origin(text: str) -> str:
    """Return an origin as browsers write it: lower case, no default port, no slash at the end.

    Two texts that a browser takes for the same origin give the same result, so that comparing is enough.
    Raises OriginError.
    """
    text = text.strip()
    if re.search(r"[\s\\\x00-\x1f]", text):
        raise OriginError("has a space or a backslash in it; write one origin a line")
    if "*" in text:
        raise OriginError("has a * in it; each origin must be written out")
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise OriginError("is not an address; write it like https://app.example.com") from None
    if url.scheme not in DEFAULT_PORTS or not text.lower().startswith(f"{url.scheme}://") or not url.hostname:
        raise OriginError("must begin with https://, like https://app.example.com")
    if "@" in url.netloc:
        raise OriginError("has a user name in it; write it without")
    host = _host(url.hostname)
    origin = f"{url.scheme}://{host}" + (f":{port}" if port not in {None, DEFAULT_PORTS[url.scheme]} else "")
    if url.path not in {"", "/"} or "?" in text or "#" in text:
        raise OriginError(f"goes on after the host; write only {origin}")
    if url.scheme == "http" and not _is_this_machine(host):
        raise OriginError("must be https; http is for localhost only")
    if len(origin) > MAX_LENGTH:
        raise OriginError(f"is longer than {MAX_LENGTH} characters")
    return origin


def _host(name: str) -> str:
    """Return a host in lower-case ASCII. Raises OriginError."""
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return f"[{address}]" if address.version == 6 else str(address)
    try:
        ascii_name = name.encode("idna").decode().lower()
    except UnicodeError:
        ascii_name = ""
    labels = ascii_name.split(".")
    # A last label of digits alone would be read as an IPv4 address in one of its odd spellings.
    if not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        raise OriginError("does not have a valid host name; write it like https://app.example.com")
    return ascii_name


def _is_this_machine(host: str) -> bool:
    return host in {"localhost", "127.0.0.1", "[::1]"} or host.endswith(".localhost")
