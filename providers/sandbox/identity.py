"""Who a token is for: /me and accessible-resources; and the ways to take a grant back."""

import random

from aiohttp import web

from providers.sandbox import chains
from providers.sandbox.gateway import bearer_of, resource_entries, unauthorized
from providers.sandbox.keys import CALL, STATE
from providers.sandbox.parameters import ParameterError, credentials, read_parameters
from providers.sandbox.replies import json_reply
from providers.sandbox.token_endpoint import authenticate
from providers.sandbox.tokens import digest


async def me(request: web.Request) -> web.StreamResponse:
    """Answer GET /me of the User Identity API."""
    bearer = bearer_of(request)
    if bearer is None:
        return unauthorized(request)
    if "read:me" not in bearer.scopes:
        # The status was measured; nobody wrote down the body.
        request[CALL].outcome = "scope_missing"
        return json_reply({"code": 403, "message": "Forbidden"}, status=403)
    account = bearer.account
    profile = {
        "account_type": "atlassian",
        "account_id": account.account_id,
        "email": account.email,
        "name": account.name,
        "picture": f"{request.url.origin()}/sandbox-assets/person.svg",
        "account_status": "active",
        "nickname": account.slug,
        "zoneinfo": "Europe/Berlin",
        "locale": "en-GB",
        "extended_profile": {
            "job_title": account.job_title,
            "organization": "Acme",
            "department": "Product",
            "location": "Berlin",
        },
    }
    if request.app[STATE].switches.hide_email:
        del profile["email"]
    request[CALL].outcome = "ok"
    return json_reply(profile)


async def accessible_resources(request: web.Request) -> web.StreamResponse:
    """Answer with the bare list of the sites that the token reaches."""
    bearer = bearer_of(request)
    if bearer is None:
        return unauthorized(request)
    switches = request.app[STATE].switches
    entries = resource_entries(bearer, str(request.url.origin()), is_split=switches.duplicate_containers)
    if switches.shuffle_resources:
        random.shuffle(entries)
    request[CALL].outcome = "ok"
    return json_reply(entries)


async def revoke(request: web.Request) -> web.StreamResponse:
    """Answer POST /oauth/revoke; by default there is no such endpoint for 3LO apps."""
    state, call = request.app[STATE], request[CALL]
    if state.switches.revoke_endpoint == 404:
        call.outcome = "not_found"
        return json_reply({"code": 404, "message": "Not Found"}, status=404)
    try:
        parameters = await read_parameters(request)
    except ParameterError as error:
        call.outcome = "invalid_request"
        return json_reply({"error": "invalid_request", "error_description": str(error)}, status=400)
    client_id, secret = credentials(request, parameters)
    call.client_id = client_id
    if authenticate(state, client_id, secret) is None:
        call.outcome = "access_denied"
        return json_reply({"error": "access_denied", "error_description": "Unauthorized"}, status=401)
    call.presented = digest(parameters.get("token", ""))
    token = state.refresh_tokens.get(call.presented) or state.access_tokens.get(call.presented)
    # RFC 7009: a token that is unknown, or another client's, is answered like one that was revoked.
    if token is not None and state.grant_of(token.family_id).client_id == client_id:
        call.family, call.committed = token.family_id, True
        chains.kill(state, state.families[token.family_id], "revoked by the client")
    call.outcome = "ok"
    return web.Response(status=200)


async def metadata(request: web.Request) -> web.StreamResponse:
    """Answer the OpenID configuration, which promises more than a 3LO app gets."""
    base = request.url.origin()
    request[CALL].outcome = "ok"
    return json_reply(
        {
            "issuer": str(base),
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/oauth/token",
            "revocation_endpoint": f"{base}/oauth/revoke",
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }
    )
