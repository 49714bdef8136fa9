"""The sandbox as an aiohttp application: which path is answered by what, and what happens around every call."""

from aiohttp import web

from providers.sandbox import (
    api_confluence,
    api_jira,
    apps_page,
    authorize,
    control,
    generic,
    identity,
    index_page,
    replies,
    token_endpoint,
)
from providers.sandbox.faults import Faults, Handler
from providers.sandbox.keys import CALL, CONTROL_TOKEN, FAULTS, STATE
from providers.sandbox.replies import json_reply
from providers.sandbox.state import State
from providers.sandbox.switches import Switches

# Paths that are the sandbox's own business: neither in the ledger nor hit by faults.
_OWN = ("/_sandbox", "/sandbox-assets/")


def make_app(
    switches: Switches | None = None, *, control_token: str = "", state: State | None = None
) -> web.Application:
    """Return a sandbox with a state of its own."""
    app = web.Application(middlewares=[_around])
    app[STATE] = state or State(switches)
    app[FAULTS] = Faults()
    app[CONTROL_TOKEN] = control_token
    app.add_routes(
        [
            # The token endpoint first: nothing else is called as often.
            web.post("/oauth/token", token_endpoint.token),
            web.get("/authorize", authorize.authorize),
            web.post("/authorize/consent", authorize.decide),
            web.get("/error", authorize.error_page),
            web.get("/oauth/token/accessible-resources", identity.accessible_resources),
            web.post("/oauth/revoke", identity.revoke),
            web.get("/me", identity.me),
            web.get("/.well-known/openid-configuration", identity.metadata),
            web.get("/manage-profile/apps", apps_page.apps),
            web.post("/manage-profile/apps", apps_page.apps),
            web.get("/", index_page.index),
            web.get("/sandbox-assets/{name}", replies.static_file),
            web.get("/_sandbox/", index_page.index),
            web.get("/_sandbox/state", control.describe_state),
            web.post("/_sandbox/clients", control.clients),
            web.post("/_sandbox/mint", control.mint),
            web.post("/_sandbox/revoke", control.revoke_grant),
            web.post("/_sandbox/honours", control.honours),
            web.post("/_sandbox/reset", control.reset),
            *generic.routes(),
            *api_jira.routes(),
            *api_confluence.routes(),
        ]
    )
    for path, handler in (
        ("ledger", control.ledger),
        ("switches", control.switches),
        ("faults", control.faults),
        ("clock", control.clock),
    ):
        for method in ("GET", "POST", "DELETE"):
            app.router.add_route(method, f"/_sandbox/{path}", handler)
    return app


@web.middleware
async def _around(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Write the call into the ledger when it arrives, let faults hit it, and note how it ended."""
    if request.path.startswith(_OWN) or request.path == "/":
        return await _own(request, handler)
    state, faults = request.app[STATE], request.app[FAULTS]
    call = request[CALL] = state.ledger.open(at=state.now(), method=request.method, path=request.path)
    try:
        hits = await faults.take(request) if faults.waiting else []
        response = await (faults.apply(hits, request, handler, call) if hits else handler(request))
    except web.HTTPException as refusal:
        call.status, call.outcome = refusal.status, "refused"
        return json_reply({"code": refusal.status, "message": refusal.reason}, status=refusal.status)
    if request.transport is not None and not request.transport.is_closing():
        call.status = response.status
    return response


async def _own(request: web.Request, handler: Handler) -> web.StreamResponse:
    is_control = request.path.startswith("/_sandbox/") and request.path != "/_sandbox/"
    if is_control and not control.is_allowed(request, request.app[CONTROL_TOKEN]):
        return json_reply({"error": "The control token is missing or wrong."}, status=401)
    if is_control and request.headers.get("Origin", str(request.url.origin())) != str(request.url.origin()):
        return json_reply({"error": "Another site's page may not steer the sandbox."}, status=403)
    try:
        return await handler(request)
    except control.ControlError as error:
        return json_reply({"error": str(error)}, status=400)
