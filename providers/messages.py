"""What goes to a provider and what comes back, as values. Nothing here knows how they travel."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from providers.spec import Outcome

# A token answer has a few kilobytes; a list of many sites more.
MAX_TOKEN_BODY = 64 * 1024
MAX_RESOURCE_BODY = 1024 * 1024


@dataclass(frozen=True)
class Credentials:
    """A client's ID and secret. The secret is not in its repr."""

    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class OutgoingRequest:
    """A request to a provider, not yet sent. Headers and body are not in its repr: they hold secrets."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    timeout: timedelta = timedelta(seconds=20)
    max_body: int = MAX_TOKEN_BODY  # Bytes; a longer answer is given up, or cut where only its status counts.
    is_cut: bool = False


@dataclass(frozen=True)
class Answer:
    """What came back: status, headers (names in lower case) and the bounded body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class NoAnswer:
    """Nothing usable came back. `is_sent` is False only if the request surely did not arrive."""

    is_sent: bool
    # One of our own words: "time-out", "refused", "dns", "no name server", "tls", "reset", "too long", "blocked", "deadline".
    reason: str


@dataclass(frozen=True)
class TokenSet:
    """A successful token answer (RFC 6749 section 5.1).

    `lifetime` is None where the answer does not say how long the access token lives; `scopes` is None where it does
    not say what was granted (then it is what was asked for); no `refresh_token` means: keep the old one (section 6).
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    lifetime: timedelta | None
    scopes: tuple[str, ...] | None


@dataclass(frozen=True)
class Failure:
    """A token request that brought no token, classified.

    `error` is the provider's OAuth error code (never its free text), `cause` our word for it from the error map.
    """

    outcome: Outcome
    error: str = ""
    status: int | None = None
    cause: str = ""
    retry_after: timedelta | None = None
