"""OAuth 2.0 without a network: build a request as a value, read an answer as a value.

Two senders in providers/http.py carry them. Nothing here knows a clock, a database or a socket.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, urlencode, urlsplit

from providers.spec import BodyFormat, ClientAuth, Outcome, Pkce

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from providers.spec import Endpoint, ProviderSpec

MAX_LIFETIME = timedelta(days=3650)
# What a credential may consist of (RFC 6749 appendix A.12): visible ASCII. A line break would split a header.
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_ERROR_CODE = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]{1,64}")


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
    reason: str  # One of our own words: "time-out", "refused", "dns", "tls", "reset", "too long", "blocked".


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


def new_state() -> str:
    """Return 256 random bits as 43 base64url characters (A2)."""
    return secrets.token_urlsafe(32)


def new_code_verifier() -> str:
    """Return a fresh PKCE verifier of 64 characters (RFC 7636 section 4.1)."""
    return secrets.token_urlsafe(48)


def code_challenge(verifier: str) -> str:
    """Return BASE64URL(SHA256(verifier)) without padding (RFC 7636 section 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def authorization_url(
    spec: ProviderSpec, *, client_id: str, redirect_uri: str, scopes: Sequence[str], state: str, verifier: str
) -> str:
    """Return where to send the browser (RFC 6749 section 4.1.1), with S256 where the provider takes it."""
    params = {
        **spec.authorize_params,
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "response_type": "code",
        "state": state,
    }
    if spec.scope_separator and scopes:
        params["scope"] = spec.scope_separator.join(scopes)
    if spec.pkce is not Pkce.NEVER:
        params |= {"code_challenge": code_challenge(verifier), "code_challenge_method": "S256"}
    separator = "&" if urlsplit(spec.authorize_url).query else "?"
    return spec.authorize_url + separator + urlencode(params, quote_via=quote)


def exchange_request(
    spec: ProviderSpec, credentials: Credentials, *, token_url: str, code: str, redirect_uri: str, verifier: str
) -> OutgoingRequest:
    """Build the request that trades a code for tokens (RFC 6749 section 4.1.3)."""
    params = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
    if spec.pkce is not Pkce.NEVER:
        params["code_verifier"] = verifier
    return _token_request(spec, credentials, token_url, params)


def refresh_request(spec: ProviderSpec, credentials: Credentials, *, refresh_token: str) -> OutgoingRequest:
    """Build the request that spends a refresh token (RFC 6749 section 6)."""
    params = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return _token_request(spec, credentials, spec.token_endpoint_for_refresh, params)


def revoke_request(spec: ProviderSpec, credentials: Credentials, *, token: str) -> OutgoingRequest | None:
    """Build the request that ends a token (RFC 7009), or None where the provider has no such endpoint."""
    if spec.revoke is None:
        return None
    return _token_request(spec, credentials, spec.revoke.url, {"token": token, "token_type_hint": "refresh_token"})


def bearer_request(endpoint: Endpoint, access_token: str, *, timeout: timedelta = timedelta(seconds=10)) -> OutgoingRequest:
    """Build a call with the access token in the header (RFC 6750 section 2.1)."""
    headers = {"Accept": "application/json", **endpoint.headers, "Authorization": f"Bearer {access_token}"}
    return OutgoingRequest(endpoint.method, endpoint.url, headers, b"", timeout)


def _token_request(spec: ProviderSpec, credentials: Credentials, url: str, params: dict[str, str]) -> OutgoingRequest:
    params = {**spec.token_params, **params}
    headers = {"Accept": "application/json"}
    if spec.client_auth is ClientAuth.BASIC:
        # RFC 6749 section 2.3.1: both parts are form-encoded before they are joined.
        pair = f"{quote_plus(credentials.client_id)}:{quote_plus(credentials.client_secret)}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    else:
        params |= {"client_id": credentials.client_id, "client_secret": credentials.client_secret}
    if spec.body_format is BodyFormat.JSON:
        headers["Content-Type"] = "application/json"
        body = json.dumps(params).encode()
    else:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        body = urlencode(params).encode()
    return OutgoingRequest("POST", url, headers, body, spec.read_timeout)


def read_token_answer(spec: ProviderSpec, answer: Answer | NoAnswer, *, grant_type: str) -> TokenSet | Failure:
    """Classify what a token request came to. Never raises, whatever the provider sends (B7)."""
    if isinstance(answer, NoAnswer):
        return Failure(Outcome.AMBIGUOUS if answer.is_sent else Outcome.NOT_SENT, cause=answer.reason)
    body = _json_object(answer.body)
    error = _error_code(body)
    if answer.status == 200 and body is not None and not error:
        tokens = _token_set(spec, body)
        return tokens or Failure(Outcome.AMBIGUOUS, status=200, cause="unreadable answer")
    rule = next(
        (rule for rule in spec.error_map if rule.matches(error=error, status=answer.status, grant_type=grant_type)), None
    )
    # A rule speaks only of an answer that is an OAuth error; a gateway's HTML page with the same status is not one.
    if rule and (error or rule.error is None):
        return Failure(rule.outcome, error, answer.status, rule.cause or error, _retry_after(answer))
    if answer.status == 429:
        return Failure(Outcome.THROTTLED, error, 429, "throttled", _retry_after(answer))
    if error and 400 <= answer.status < 500 or (error and answer.status == 200):
        return Failure(_standard_outcome(error), error, answer.status, error, _retry_after(answer))
    return Failure(Outcome.AMBIGUOUS, error, answer.status, f"status {answer.status}", _retry_after(answer))


def _standard_outcome(error: str) -> Outcome:
    """Classify by RFC 6749 section 5.2 where the provider's own map is silent (B8, B9)."""
    if error == "invalid_grant":
        return Outcome.GRANT_DEAD
    if error in {"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_request"}:
        return Outcome.CLIENT_BAD
    return Outcome.AMBIGUOUS


def _json_object(body: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None for anything else, for names that stand twice, and for numbers that are none."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a name stands twice")
        return dict(pairs)

    try:
        value = json.loads(body, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _error_code(body: dict[str, Any] | None) -> str:
    """Return the answer's OAuth error code, or "" (Slack and GitHub send errors with status 200)."""
    if body is None:
        return ""
    error = body.get("error")
    if error is None and body.get("ok") is False:
        error = "not_ok"
    if not error:
        return ""
    return error if isinstance(error, str) and _ERROR_CODE.fullmatch(error) else "unreadable_error"


def _token_set(spec: ProviderSpec, body: dict[str, Any]) -> TokenSet | None:
    access, refresh, scope = body.get("access_token"), body.get("refresh_token"), body.get("scope")
    if not _is_credential(access) or not (refresh is None or _is_credential(refresh)):
        return None
    token_type = body.get("token_type", "Bearer")
    if not isinstance(token_type, str) or token_type.lower() != "bearer":
        return None
    return TokenSet(
        access_token=access,
        refresh_token=refresh,
        lifetime=read_lifetime(body.get("expires_in")),
        scopes=_scopes(spec, scope),
    )


def _is_credential(value: Any) -> bool:
    return isinstance(value, str) and _VISIBLE.fullmatch(value) is not None


def _scopes(spec: ProviderSpec, scope: Any) -> tuple[str, ...] | None:
    if isinstance(scope, list) and all(isinstance(name, str) for name in scope):
        names = scope
    elif isinstance(scope, str) and scope.strip():
        separator = spec.scope_separator.strip()
        names = scope.replace(separator, " ").split() if separator else scope.split()
    else:
        return None
    return tuple(dict.fromkeys(name[:200] for name in names))


def read_lifetime(value: Any) -> timedelta | None:
    """Read `expires_in` in seconds; None where it is missing or makes no sense (B6). At most ten years."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
        return None
    return timedelta(seconds=min(value, MAX_LIFETIME.total_seconds()))


def _retry_after(answer: Answer) -> timedelta | None:
    """Read Retry-After in seconds; its date form needs a clock and is left to `retry_after_date` (B11)."""
    text = answer.headers.get("retry-after", "").strip()
    return timedelta(seconds=min(int(text), 3600)) if text.isascii() and text.isdigit() and len(text) < 10 else None
