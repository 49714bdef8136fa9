"""The door to the resource endpoints: bearer tokens, scopes, rate limits."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import wraps
from itertools import chain
from typing import TypeAlias

from aiohttp import web

from providers.sandbox import chains
from providers.sandbox.keys import CALL, STATE
from providers.sandbox.people import Account, Site, account_named
from providers.sandbox.replies import json_reply, server_error_page
from providers.sandbox.scopes import product_of
from providers.sandbox.state import ATLASSIAN, Grant, State
from providers.sandbox.tokens import digest

# What the headers say while no quota is switched on; seen on ordinary answers.
USUAL_LIMIT = 350


class Bearer:
    """Who calls, with what: the account, the grant, and the scopes that hold now."""

    def __init__(self, grant: Grant, scopes: list[str]) -> None:
        self.grant = grant
        self.account: Account = account_named(grant.account)
        # A newer consent with fewer scopes narrows older tokens too.
        self.scopes = frozenset(scopes) & frozenset(grant.scopes)

    def has_one_of(self, scopes: tuple[str, ...]) -> bool:
        return not scopes or not self.scopes.isdisjoint(scopes)


def bearer_of(request: web.Request, issuer: str = ATLASSIAN) -> Bearer | None:
    """Return who calls, or None when the token is missing, expired, revoked or not ours."""
    state, call = request.app[STATE], request[CALL]
    scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not presented:
        call.reason = "no bearer token"
        return None
    call.presented = digest(presented)
    found = chains.living_access(state, presented)
    if found is None or found[1].issuer != issuer:
        call.reason = "access token expired, revoked or unknown"
        return None
    token, grant = found
    call.client_id, call.account, call.family = grant.client_id, grant.account, token.family_id
    return Bearer(grant, token.scopes)


def unauthorized(request: web.Request) -> web.Response:
    """Return what the gateway says to a token that is not good (any more)."""
    request[CALL].outcome = "unauthorized"
    is_by_path = request.app[STATE].switches.expired_token_status == "by_path"  # noqa: S105 - not a secret
    if is_by_path and request.path.startswith("/ex/"):
        if "/api/v2/" in request.path or "/rest/agile/" in request.path:
            return json_reply({"code": 404, "message": "Not Found"}, status=404)
        return json_reply({"code": 403, "message": "Forbidden"}, status=403)
    return json_reply({"code": 401, "message": "Unauthorized"}, status=401)


def scope_missing(request: web.Request) -> web.Response:
    """Return what the gateway says when a scope is missing; it never names the scope."""
    request[CALL].outcome = "scope_missing"
    return json_reply({"code": 401, "message": "Unauthorized; scope does not match"}, status=401)


ProductHandler: TypeAlias = Callable[[web.Request, Bearer, Site], Awaitable[web.StreamResponse]]
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


def product(name: str, *scopes: str) -> Callable[[ProductHandler], Handler]:
    """Guard a Jira or Confluence call: token, rate limit, site, and one of the scopes, in this order."""

    def decorate(handler: ProductHandler) -> Handler:
        @wraps(handler)
        async def guarded(request: web.Request) -> web.StreamResponse:
            state, call = request.app[STATE], request[CALL]
            bearer = bearer_of(request)
            if bearer is None:
                return unauthorized(request)
            cloud_id = request.match_info["cloud_id"]
            left = _remaining(state, bearer.grant.client_id, cloud_id)
            if state.switches.rate_limit or left < 0:
                call.outcome = "rate_limited"
                return _too_many(state)
            site = next((site for site in bearer.grant.reachable_sites() if site.cloud_id == cloud_id), None)
            if site is None or name not in site.products:
                call.outcome = "not_found"
                return json_reply({"code": 404, "message": "Not Found"}, status=404)
            if not bearer.has_one_of(scopes):
                return scope_missing(request)
            response = await handler(request, bearer, site)
            response.headers.update(_limit_headers(state, left))
            call.outcome = "ok" if response.status < 400 else "refused"
            return response

        return guarded

    return decorate


def resource_entries(bearer: Bearer, base: str, *, is_split: bool) -> list[dict[str, object]]:
    """Return the entries of accessible-resources: one a site, or one a product where a site is split."""
    entries: list[dict[str, object]] = []
    for site in bearer.grant.reachable_sites():
        by_product = {
            name: sorted(scope for scope in bearer.scopes if product_of(scope) == name)
            for name in site.products
        }
        groups = [scopes for scopes in by_product.values() if scopes]
        if not (is_split or site.is_split):
            groups = [sorted(chain.from_iterable(groups))] if groups else []
        entries += [
            {
                "id": site.cloud_id,
                "name": site.name,
                "url": site.url,
                "scopes": scopes,
                "avatarUrl": f"{base}/sandbox-assets/site.svg",
            }
            for scopes in groups
        ]
    return entries


def _remaining(state: State, client_id: str, cloud_id: str) -> int:
    """Count the call; return how many are left in this minute, negative when there are none."""
    minute = int(state.now() // 60)
    counted_minute, used = state.quota.get((client_id, cloud_id), (minute, 0))
    used = used + 1 if counted_minute == minute else 1
    state.quota[client_id, cloud_id] = (minute, used)
    limit = state.switches.api_quota
    return limit - used if limit else max(1, USUAL_LIMIT - used)


def _limit_headers(state: State, left: int) -> dict[str, str]:
    limit = state.switches.api_quota or USUAL_LIMIT
    headers = {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(max(0, left)),
        "X-RateLimit-Reset": _next_minute(state),
        "Beta-RateLimit-Policy": f'"tenant-app-quota";q={limit};w=60',
        "Beta-RateLimit": f'"tenant-app-quota";r={max(0, left)};t={60 - int(state.now()) % 60}',
    }
    if left < limit / 5:
        headers["X-RateLimit-NearLimit"] = "true"
    return headers


def _too_many(state: State) -> web.Response:
    headers = {
        **_limit_headers(state, 0),
        "Retry-After": str(60 - int(state.now()) % 60),
        "RateLimit-Reason": "jira-quota-tenant-based",
    }
    if state.switches.rate_limit == "html":
        return server_error_page(429, headers=headers)
    return json_reply({"code": 429, "message": "Too Many Requests"}, status=429, headers=headers)


def _next_minute(state: State) -> str:
    """Return the next full minute the way Jira writes it; never seconds since 1970."""
    return datetime.fromtimestamp((state.now() // 60 + 1) * 60, tz=UTC).strftime("%Y-%m-%dT%H:%MZ")
