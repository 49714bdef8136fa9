"""OAuth 2.0 without a network: build a request as a value, read an answer as a value.

Two senders in providers/http.py carry them. Nothing here knows a clock, a database or a socket.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, urlencode, urlsplit

from providers.answers import read_lifetime, read_token_answer
from providers.messages import (
    MAX_RESOURCE_BODY,
    Answer,
    Credentials,
    Failure,
    NoAnswer,
    OutgoingRequest,
    TokenSet,
)
from providers.spec import BodyFormat, ClientAuth, Pkce

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from providers.spec import Endpoint, ProviderSpec

__all__ = [
    "Answer",
    "Credentials",
    "Failure",
    "NoAnswer",
    "OutgoingRequest",
    "TokenSet",
    "authorization_url",
    "bearer_request",
    "code_challenge",
    "exchange_request",
    "new_code_verifier",
    "new_state",
    "read_lifetime",
    "read_token_answer",
    "refresh_request",
    "revoke_request",
]


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
        params[spec.scope_param] = spec.scope_separator.join(scopes)
    if spec.pkce is not Pkce.NEVER:
        params |= {"code_challenge": code_challenge(verifier), "code_challenge_method": "S256"}
    separator = "&" if urlsplit(spec.authorize_url).query else "?"
    return spec.authorize_url + separator + urlencode(params, quote_via=quote)


def exchange_request(
    spec: ProviderSpec,
    credentials: Credentials,
    *,
    token_url: str,
    code: str,
    redirect_uri: str,
    verifier: str,
) -> OutgoingRequest:
    """Build the request that trades a code for tokens (RFC 6749 section 4.1.3)."""
    params = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
    if spec.pkce is not Pkce.NEVER:
        params["code_verifier"] = verifier
    return _client_request(spec, credentials, token_url, {**spec.token_params, **params})


def refresh_request(spec: ProviderSpec, credentials: Credentials, *, refresh_token: str) -> OutgoingRequest:
    """Build the request that spends a refresh token (RFC 6749 section 6)."""
    params = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return _client_request(
        spec, credentials, spec.token_endpoint_for_refresh, {**spec.token_params, **params}
    )


def revoke_request(spec: ProviderSpec, credentials: Credentials, *, token: str) -> OutgoingRequest | None:
    """Build the request that ends a token (RFC 7009), or None where the provider has no such endpoint."""
    if spec.revoke is None:
        return None
    params = {"token": token, "token_type_hint": "refresh_token"}
    return _client_request(spec, credentials, spec.revoke.url, params, extra_headers=spec.revoke.headers)


def bearer_request(
    endpoint: Endpoint, access_token: str, *, timeout: timedelta = timedelta(seconds=10)
) -> OutgoingRequest:
    """Build a call with the access token in the header (RFC 6750 section 2.1)."""
    headers = {"Accept": "application/json", **endpoint.headers, "Authorization": f"Bearer {access_token}"}
    return OutgoingRequest(endpoint.method, endpoint.url, headers, b"", timeout, MAX_RESOURCE_BODY)


def _client_request(
    spec: ProviderSpec,
    credentials: Credentials,
    url: str,
    params: dict[str, str],
    *,
    extra_headers: Mapping[str, str] | None = None,
) -> OutgoingRequest:
    """Build a POST in which the client shows who it is, as the provider wants both."""
    headers = {"Accept": "application/json", **(extra_headers or {})}
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
