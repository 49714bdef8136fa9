"""POST /oauth/token: codes and refresh tokens in, pairs of tokens out, and the errors that Atlassian gives."""

import asyncio
import base64
import hashlib
import hmac
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import web

from providers.sandbox import chains
from providers.sandbox.keys import CALL, STATE
from providers.sandbox.ledger import Call
from providers.sandbox.parameters import ParameterError, credentials, read_parameters
from providers.sandbox.replies import json_reply, server_error_page
from providers.sandbox.state import ATLASSIAN, Client, Code, State
from providers.sandbox.tokens import digest

CODE_ERROR = "authorization_code is invalid"


class TokenError(Exception):
    """A refusal, with the status and the body that the caller gets."""

    def __init__(self, status: int, error: str, description: str, *, reason: str = "") -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.description = description
        self.reason = reason or description


async def token(request: web.Request) -> web.StreamResponse:
    """Answer a token request; the ledger says whether anything was committed."""
    state, call = request.app[STATE], request[CALL]
    if state.switches.token_delay_ms:
        await asyncio.sleep(state.switches.token_delay_ms / 1000)
    if state.switches.nonjson_5xx:
        call.outcome = "server_error"
        return server_error_page(state.switches.nonjson_5xx)
    try:
        body = _exchange(state, call, await read_parameters(request), request)
    except ParameterError as error:
        call.outcome, call.reason = "invalid_request", str(error)
        return json_reply({"error": "invalid_request", "error_description": str(error)}, status=400)
    except TokenError as error:
        call.outcome, call.reason = error.error, error.reason
        return json_reply({"error": error.error, "error_description": error.description}, status=error.status)
    call.outcome = "ok"
    return json_reply(body)


def authenticate(state: State, client_id: str, secret: str) -> Client | None:
    """Return the client if the secret is right, taking the secret as it stands or form-encoded (RFC 6749, 2.3.1)."""
    client = state.client(client_id) or state.client(unquote_plus(client_id))
    if client is None:
        return None
    return client if client.accepts(secret) or client.accepts(unquote_plus(secret)) else None


def find_code(state: State, call: Call, presented: str, client: Client, issuer: str) -> Code | None:
    """Return a code that is good now, or None with the reason in the ledger."""
    call.presented = digest(presented)
    code = state.codes.get(call.presented)
    if code is None:
        call.reason = "unknown code"
    elif code.request.client_id != client.client_id or code.request.issuer != issuer:
        call.reason = "code of another client"
    elif code.is_used:
        call.reason = "code used before"
    elif code.expires_at <= state.now():
        call.reason = "code expired"
    elif state.grants[code.grant_id].is_revoked:
        call.reason = "the person removed the app"
    else:
        return code
    return None


def _exchange(state: State, call: Call, parameters: dict[str, str], request: web.Request) -> dict[str, Any]:
    call.grant_type = parameters.get("grant_type", "")
    client_id, secret = credentials(request, parameters)
    call.client_id = client_id
    if "resource" in parameters:
        raise TokenError(400, "invalid_target", "Incorrect resource parameters")
    client = authenticate(state, client_id, secret)
    if client is None:
        raise TokenError(401, "access_denied", "Unauthorized", reason="unknown client or wrong secret")
    call.client_id = client.client_id
    issuer_url = str(request.url.origin())
    if call.grant_type == "authorization_code":
        pair = _spend_code(state, call, parameters, client, issuer_url)
    elif call.grant_type == "refresh_token":
        pair = _spend_refresh_token(state, call, parameters, client, issuer_url)
    else:
        raise TokenError(400, "invalid_request", "grant_type must be authorization_code or refresh_token.")
    return _success(state, pair)


def _spend_code(
    state: State, call: Call, parameters: dict[str, str], client: Client, issuer_url: str
) -> chains.Pair:
    for name in ("code", "redirect_uri"):
        if not parameters.get(name):
            raise TokenError(400, "invalid_request", f"{name} is missing.")
    code = find_code(state, call, parameters["code"], client, ATLASSIAN)
    if code is None:
        raise TokenError(400, "invalid_request", CODE_ERROR, reason=call.reason)
    if parameters["redirect_uri"] != code.request.redirect_uri:
        raise TokenError(400, "invalid_request", CODE_ERROR, reason="another redirect_uri than at authorize")
    if state.switches.pkce == "verify" and not verifier_fits(code.request.code_challenge, parameters):
        raise TokenError(400, "invalid_grant", "Failed to verify code verifier")
    code.is_used = True
    return chains.start(state, state.grants[code.grant_id], call, issuer_url=issuer_url)


def _spend_refresh_token(
    state: State, call: Call, parameters: dict[str, str], client: Client, issuer_url: str
) -> chains.Pair:
    presented = parameters.get("refresh_token")
    if not presented:
        raise TokenError(400, "invalid_request", "refresh_token is missing.")
    try:
        return chains.renew(state, presented, client_id=client.client_id, call=call, issuer_url=issuer_url)
    except chains.DeadTokenError as error:
        style = state.switches.refresh_error_style
        if style == "unauthorized_client" or (style == "by_cause" and error.is_unknown):
            raise TokenError(
                403, "unauthorized_client", "refresh_token is invalid", reason=error.reason
            ) from error
        raise TokenError(
            403, "invalid_grant", "Unknown or invalid refresh token.", reason=error.reason
        ) from error


def verifier_fits(challenge: str, parameters: dict[str, str]) -> bool:
    """Check S256 (RFC 7636); no challenge at authorize means that no verifier may come, either."""
    verifier = parameters.get("code_verifier", "")
    if not challenge:
        return not verifier
    hashed = hashlib.sha256(verifier.encode()).digest()
    expected = base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()
    return hmac.compare_digest(expected.encode(), challenge.encode())


def _success(state: State, pair: chains.Pair) -> dict[str, Any]:
    switches = state.switches
    body: dict[str, Any] = {"access_token": pair.access_token, "token_type": "Bearer"}
    if not switches.no_expires_in:
        given = switches.expires_in_value
        body["expires_in"] = int(switches.access_ttl) if given is None else given
    if pair.refresh_token is not None:
        body["refresh_token"] = pair.refresh_token
    if not switches.omit_scope_field:
        body["scope"] = " ".join(sorted(pair.scopes))
    return body
