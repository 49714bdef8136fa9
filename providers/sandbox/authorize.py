"""GET /authorize: check the request, show the consent page, and send the person back with a code.

Like Atlassian, a request that is wrong ends on an error page of the provider; the redirect URI is never called.
"""

from secrets import token_hex, token_urlsafe
from urllib.parse import urlencode, urlsplit, urlunsplit

from aiohttp import web

from providers.sandbox import scopes as known_scopes
from providers.sandbox.consent_page import consent_page
from providers.sandbox.keys import CALL, STATE
from providers.sandbox.people import Account, find_account
from providers.sandbox.replies import fill, page
from providers.sandbox.state import ATLASSIAN, GENERIC, AuthorizeRequest, Client, Code, State
from providers.sandbox.tokens import digest, new_token

AUDIENCE = "api.atlassian.com"
INCOMPLETE = "The authorize request was incomplete or invalid"
# A consent page that nobody answers is forgotten when this many newer ones wait.
MAX_PENDING = 10_000
# Longer ones no longer fit into the request line of a callback.
MAX_CODE_SIZE = 3000


class AuthorizeError(Exception):
    """A request that ends on the provider's own error page."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error)
        self.error = error
        self.description = description


async def authorize(request: web.Request) -> web.StreamResponse:
    """Show the consent page, or lead to the error page."""
    state, call = request.app[STATE], request[CALL]
    call.client_id = request.query.get("client_id", "")
    try:
        asked = _checked(state, request)
    except AuthorizeError as error:
        call.outcome, call.reason = error.error, error.description
        return to_error_page(error.error, error.description)
    call.outcome = "ok"
    return consent_page(state, remember(state, asked), preferred=request.query.get("account", "jo"))


def remember(state: State, asked: AuthorizeRequest) -> str:
    """Keep a checked request until the person answers; return the name to find it by."""
    context = token_urlsafe(24)
    state.pending[context] = asked
    while len(state.pending) > MAX_PENDING:
        del state.pending[next(iter(state.pending))]
    return context


async def decide(request: web.Request) -> web.StreamResponse:
    """Take the person's answer: Accept leads back with a code, Cancel with an error."""
    state, call = request.app[STATE], request[CALL]
    form = await request.post()
    context = str(form.get("context", ""))
    asked = state.pending.get(context)
    if asked is None:
        call.outcome, call.reason = "invalid_request", "consent page used before or unknown"
        return to_error_page(
            "invalid_request", "This consent page was answered before. Start again from the app."
        )
    call.client_id = asked.client_id
    if form.get("decision") != "accept":
        del state.pending[context]
        call.outcome = "access_denied"
        return lead_back(
            asked.redirect_uri,
            asked.state,
            error="access_denied",
            error_description="User did not authorize the request",
        )

    account = find_account(str(form.get("account", "")))
    if account is None:
        return consent_page(state, context, problem="Choose an account.", status=400)
    call.account = account.slug
    refusal = _refusal(state, asked, account)
    if refusal:
        call.outcome, call.reason = "consent_refused", refusal
        return consent_page(state, context, preferred=account.slug, problem=refusal, status=403)
    picked = [str(value) for value in form.getall("site", [])]
    sites = [site.cloud_id for name in picked if (site := account.site(name)) is not None]
    if len(sites) != len(picked):
        problem = f"{account.name} has no access to that site. {account.name} has: {account.site_names}."
        return consent_page(state, context, preferred=account.slug, problem=problem, status=400)
    if asked.issuer == ATLASSIAN and state.switches.grant_type == "resource" and len(sites) != 1:
        return consent_page(state, context, preferred=account.slug, problem="Choose one site.", status=400)

    del state.pending[context]
    if not sites:
        sites = [site.cloud_id for site in account.sites]
    given = asked.scopes
    if state.switches.granted_scopes:
        given = [scope for scope in given if scope in state.switches.granted_scopes.split()]
    grant = state.give(asked, account=account.slug, scopes=given, sites=sites)
    code = new_token(
        "code",
        subject=account.account_id,
        audience=asked.client_id,
        issuer=str(request.url.origin()),
        at=state.now(),
        expires_at=state.now() + state.switches.code_ttl,
        size=min(state.switches.token_size * 3 // 4, MAX_CODE_SIZE),
    )
    state.codes[digest(code)] = Code(asked, grant.id, state.now() + state.switches.code_ttl)
    call.outcome, call.presented, call.committed = "ok", digest(code), True
    return lead_back(asked.redirect_uri, asked.state, code=code, iss=state.switches.iss or None)


async def error_page(request: web.Request) -> web.StreamResponse:
    """Show an error that stays at the provider (Atlassian's id.atlassian.com/error)."""
    request[CALL].outcome = "error_page"
    content = fill(
        "error.html",
        error=request.query.get("error", "server_error"),
        description=request.query.get("error_description", "Something went wrong."),
        reference=token_hex(8),
    )
    return page("Something went wrong", content)


def to_error_page(error: str, description: str) -> web.Response:
    """Redirect to the provider's error page."""
    query = urlencode({"error": error, "error_description": description})
    return web.Response(status=302, headers={"Location": f"/error?{query}", "Cache-Control": "no-store"})


def _checked(state: State, request: web.Request) -> AuthorizeRequest:
    """Return the request if all is well with it. Raises AuthorizeError."""
    query, switches = request.query, state.switches
    if len(query) > len(set(query)):
        raise AuthorizeError("invalid_request", INCOMPLETE)
    client, redirect_uri = _client_and_redirect_uri(state, request)
    if query.get("audience") != AUDIENCE or query.get("response_type") != "code":
        raise AuthorizeError("invalid_request", INCOMPLETE)
    if "resource" in query:
        raise AuthorizeError("invalid_target", "Incorrect resource parameters")
    scopes = _scopes(client, query.get("scope", ""), switches.unknown_scope)
    challenge = query.get("code_challenge", "")
    if switches.pkce == "verify" and challenge and query.get("code_challenge_method") != "S256":
        raise AuthorizeError("invalid_request", "code_challenge_method must be S256")
    if not client.shared or switches.consent_error == "not_shared":
        raise AuthorizeError("access_denied", "failed to retrieve client")
    return AuthorizeRequest(
        ATLASSIAN, client.client_id, redirect_uri, scopes, query.get("state"), challenge, state.now()
    )


def _client_and_redirect_uri(state: State, request: web.Request) -> tuple[Client, str]:
    client = state.client(request.query.get("client_id", ""))
    if client is None:
        raise AuthorizeError("invalid_request", "failed to retrieve client")
    redirect_uri = request.query.get("redirect_uri", "")
    if client.redirect_uris and redirect_uri not in client.redirect_uris:
        raise AuthorizeError(
            "unauthorized_client", f"redirect_uri is not registered for client: {redirect_uri}"
        )
    parts = urlsplit(redirect_uri)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise AuthorizeError("invalid_request", INCOMPLETE)
    return client, redirect_uri


def _scopes(client: Client, asked: str, unknown_scope: str) -> list[str]:
    """Return the scopes that go on the consent page."""
    scopes = list(dict.fromkeys(asked.split()))
    if not scopes:
        raise AuthorizeError("invalid_request", INCOMPLETE)
    if known_scopes.OPENID_SCOPES & set(scopes):
        raise AuthorizeError("server_error", "Something went wrong")
    # offline_access is never enabled in the console; it is asked for in the URL alone.
    enabled = [*client.scopes, known_scopes.OFFLINE] if client.scopes else []
    unknown = [
        scope for scope in scopes if not (scope in enabled if enabled else known_scopes.is_known(scope))
    ]
    if unknown and unknown_scope == "error_page":
        raise AuthorizeError("invalid_scope", f"scope is not enabled for client: {' '.join(unknown)}")
    return [scope for scope in scopes if scope not in unknown or unknown_scope == "accept"]


def _refusal(state: State, asked: AuthorizeRequest, account: Account) -> str:
    """Return what the consent page says to a person whose site does not let the app in; empty when all is well."""
    if asked.issuer == GENERIC:
        return ""
    if state.switches.consent_error == "site_admin":
        site = account.sites[0].name if account.sites else "acme"
        return (
            f"Your site admin must authorize this app for the site {site} "
            "before the app can access your account."
        )
    if state.switches.consent_error == "no_site":
        return (
            "Access denied. This app requires access to a Jira & Confluence site which you don't have "
            "or don't have the permission to access."
        )
    if state.switches.grant_type == "resource" and not account.sites:
        return "Access denied. You have no site to choose."
    return ""


def lead_back(redirect_uri: str, state: str | None, **answer: str | None) -> web.Response:
    """Redirect to the client with the answer and the state it sent; what is None is left out."""
    parts = urlsplit(redirect_uri)
    pairs = {**answer, "state": state}
    added = urlencode({name: value for name, value in pairs.items() if value is not None})
    location = urlunsplit(parts._replace(query=f"{parts.query}&{added}" if parts.query else added))
    return web.Response(status=302, headers={"Location": location, "Cache-Control": "no-store"})
