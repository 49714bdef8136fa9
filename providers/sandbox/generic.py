"""A second, plain OAuth 2.0 provider, as unlike Atlassian as common providers are.

HTTP Basic only, forms only, scopes separated by commas, a refresh token that never changes, errors by RFC 6749.
It shows that a provider described by a catalog file of one's own works.
"""

from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from providers.sandbox import authorize, chains
from providers.sandbox.consent_page import consent_page
from providers.sandbox.gateway import bearer_of
from providers.sandbox.keys import CALL, STATE
from providers.sandbox.parameters import ParameterError, basic_credentials, read_parameters
from providers.sandbox.replies import json_reply
from providers.sandbox.state import GENERIC, AuthorizeRequest, Client, State
from providers.sandbox.token_endpoint import authenticate, find_code, verifier_fits
from providers.sandbox.tokens import digest

ACCESS_TTL = 7200


class GenericError(Exception):
    """A refusal by RFC 6749, section 5.2."""

    def __init__(self, error: str, *, status: int = 400, reason: str = "") -> None:
        super().__init__(error)
        self.error = error
        self.status = status
        self.reason = reason


async def begin(request: web.Request) -> web.StreamResponse:
    """GET /generic/authorize: unlike Atlassian, most errors go back to the client (RFC 6749, 4.1.2.1)."""
    state, call, query = request.app[STATE], request[CALL], request.query
    call.client_id = query.get("client_id", "")
    client, redirect_uri = state.client(call.client_id), query.get("redirect_uri", "")
    parts = urlsplit(redirect_uri)
    is_registered = client is not None and (not client.redirect_uris or redirect_uri in client.redirect_uris)
    if client is None or not is_registered or parts.scheme not in ("http", "https"):
        call.outcome = "invalid_request"
        return authorize.to_error_page("invalid_request", "The client or its redirect_uri is not known.")
    scopes = [scope for scope in query.get("scope", "").split(",") if scope]
    error = ""
    if query.get("response_type") != "code":
        error = "unsupported_response_type"
    elif not scopes or any(" " in scope for scope in scopes):
        error = "invalid_scope"
    if error:
        call.outcome = error
        return authorize.lead_back(redirect_uri, query.get("state"), error=error)
    call.outcome = "ok"
    asked = AuthorizeRequest(
        GENERIC,
        client.client_id,
        redirect_uri,
        scopes,
        query.get("state"),
        query.get("code_challenge", ""),
        state.now(),
    )
    return consent_page(state, authorize.remember(state, asked))


async def token(request: web.Request) -> web.StreamResponse:
    """POST /generic/token."""
    state, call = request.app[STATE], request[CALL]
    try:
        if request.content_type != "application/x-www-form-urlencoded":
            raise GenericError("invalid_request", reason="not a form")
        parameters = await read_parameters(request)
        call.grant_type = parameters.get("grant_type", "")
        client = _client(state, request)
        call.client_id = client.client_id
        body = _exchange(state, request, parameters, client)
    except ParameterError as error:
        call.outcome, call.reason = "invalid_request", str(error)
        return json_reply({"error": "invalid_request"}, status=400)
    except GenericError as error:
        call.outcome, call.reason = error.error, error.reason
        headers = {"WWW-Authenticate": 'Basic realm="sandbox"'} if error.status == 401 else None
        return json_reply({"error": error.error}, status=error.status, headers=headers)
    call.outcome = "ok"
    return json_reply(body)


async def userinfo(request: web.Request) -> web.StreamResponse:
    """GET /generic/userinfo."""
    bearer = bearer_of(request, GENERIC)
    if bearer is None:
        request[CALL].outcome = "invalid_token"
        headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        return json_reply({"error": "invalid_token"}, status=401, headers=headers)
    account = bearer.account
    request[CALL].outcome = "ok"
    return json_reply({"sub": account.slug, "name": account.name, "email": account.email})


async def revoke(request: web.Request) -> web.StreamResponse:
    """POST /generic/revoke (RFC 7009): a token that is not known is a success as well."""
    state, call = request.app[STATE], request[CALL]
    try:
        parameters = await read_parameters(request)
        client = _client(state, request)
    except (ParameterError, GenericError) as error:
        status = error.status if isinstance(error, GenericError) else 400
        call.outcome = error.error if isinstance(error, GenericError) else "invalid_request"
        return json_reply({"error": call.outcome}, status=status)
    call.client_id = client.client_id
    call.presented = digest(parameters.get("token", ""))
    found = state.refresh_tokens.get(call.presented) or state.access_tokens.get(call.presented)
    if found is not None and state.grant_of(found.family_id).client_id == client.client_id:
        call.family, call.committed = found.family_id, True
        chains.kill(state, state.families[found.family_id], "revoked by the client")
    call.outcome = "ok"
    return web.Response(status=200)


def routes() -> list[web.RouteDef]:
    """Return the routes below /generic/."""
    return [
        web.get("/generic/authorize", begin),
        web.post("/generic/consent", authorize.decide),
        web.post("/generic/token", token),
        web.get("/generic/userinfo", userinfo),
        web.post("/generic/revoke", revoke),
    ]


def _client(state: State, request: web.Request) -> Client:
    client_id, secret = basic_credentials(request) or ("", "")
    client = authenticate(state, client_id, secret)
    if client is None:
        raise GenericError("invalid_client", status=401, reason="no Basic credentials, or wrong ones")
    return client


def _exchange(
    state: State, request: web.Request, parameters: dict[str, str], client: Client
) -> dict[str, Any]:
    call, issuer_url = request[CALL], f"{request.url.origin()}/generic"
    if call.grant_type == "authorization_code":
        code = find_code(state, call, parameters.get("code", ""), client, GENERIC)
        if code is None:
            raise GenericError("invalid_grant", reason=call.reason)
        if parameters.get("redirect_uri") != code.request.redirect_uri:
            raise GenericError("invalid_grant", reason="another redirect_uri than at authorize")
        if not verifier_fits(code.request.code_challenge, parameters):
            raise GenericError("invalid_grant", reason="code_verifier does not fit")
        code.is_used = True
        pair = chains.start(state, state.grants[code.grant_id], call, issuer_url=issuer_url, ttl=ACCESS_TTL)
    elif call.grant_type == "refresh_token":
        try:
            pair = chains.renew_static(
                state,
                parameters.get("refresh_token", ""),
                client_id=client.client_id,
                call=call,
                issuer_url=issuer_url,
                ttl=ACCESS_TTL,
            )
        except chains.DeadTokenError as error:
            raise GenericError("invalid_grant", reason=error.reason) from error
    else:
        raise GenericError("unsupported_grant_type")
    body: dict[str, Any] = {
        "access_token": pair.access_token,
        "token_type": "bearer",
        "expires_in": ACCESS_TTL,
        "scope": ",".join(pair.scopes),
    }
    if pair.refresh_token:
        body["refresh_token"] = pair.refresh_token
    return body
