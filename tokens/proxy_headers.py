"""Which headers pass the proxy. Both ways it is a list of what may, so that nothing unheard-of slips through (E4 to E6)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin

from tokens.errors import BadPathError
from tokens.proxy_path import as_sent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from providers.spec import ProxyRules

# What says what is sent and wanted. Who asks, from where, and with what rights is never the caller's to say (E5).
REQUEST_HEADERS = frozenset(
    {
        "accept",
        "accept-language",
        "content-type",
        "content-disposition",
        "content-language",
        "prefer",
        "range",
    }
    | {"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"}
)
RESPONSE_HEADERS = frozenset(
    {"content-type", "content-length", "content-encoding", "content-language", "content-range"}
    | {"accept-ranges", "etag", "last-modified", "date", "retry-after", "deprecation", "sunset", "warning"}
    | {"content-disposition", "allow"}
)
# The provider's rate limits, however it spells them.
LIMIT_HEADERS = ("ratelimit", "x-ratelimit", "x-rate-limit")
# What a browser would run, were it ever led here.
ACTIVE_TYPES = ("html", "xml", "svg", "javascript", "ecmascript", "pdf", "flash")
# A page in here is nobody's: no script, no form, no origin (E6).
SANDBOX = "sandbox; default-src 'none'; frame-ancestors 'none'"


def request_headers(given: Mapping[str, str], rules: ProxyRules) -> dict[str, str]:
    """Return what of a caller's headers goes to the provider. Raises BadPathError for one with a line break."""
    kept = {}
    for name, value in given.items():
        if name.lower() in REQUEST_HEADERS or name.lower() in rules.request_headers:
            if not value.isprintable() or not value.isascii():
                raise BadPathError(f"The header {name} holds a sign that cannot be passed on.")
            kept[name] = value
    return kept


def response_headers(
    given: Iterable[tuple[str, str]], rules: ProxyRules, *, url: str, base_url: str, proxy_url: str
) -> dict[str, str]:
    """Return what of a provider's headers goes to the caller, and what makes the answer harmless in a browser.

    A redirect below the same base URL leads through the proxy again; any other is told in `X-Portal-Location`, which no
    library follows: it would send the API key there (E4).
    """
    kept: dict[str, str] = {}
    for name, value in given:
        small = name.lower()
        if small == "location":
            there = urljoin(url, value)
            if there.startswith(f"{base_url}/"):
                path, mark, query = there.removeprefix(base_url).partition("?")
                kept["Location"] = proxy_url + as_sent(path) + mark + query
            else:
                kept["X-Portal-Location"] = there
        elif small in RESPONSE_HEADERS or small in rules.response_headers or small.startswith(LIMIT_HEADERS):
            # The client's names are of a subclass, which a strict WSGI server refuses (PEP 3333).
            plain = str(name)
            kept[plain] = f"{kept[plain]}, {value}" if plain in kept else value
    return kept | {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": SANDBOX}


def harmless_type(content_type: str) -> str:
    """Return a type that no browser shows as a page: an active one becomes plain text, with its charset kept."""
    kind, separator, parameters = content_type.partition(";")
    return (
        f"text/plain{separator}{parameters}"
        if any(word in kind.lower() for word in ACTIVE_TYPES)
        else content_type
    )
