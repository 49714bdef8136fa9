"""/manage-profile/apps: where a person sees which apps have access, and removes them."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from aiohttp import web

from providers.sandbox.keys import CALL, STATE
from providers.sandbox.people import ACCOUNTS, SITES
from providers.sandbox.replies import Html, fill, page
from providers.sandbox.state import Grant, State


async def apps(request: web.Request) -> web.StreamResponse:
    """List what an account has given (?account=sam); removing one is a POST with its id."""
    state, call = request.app[STATE], request[CALL]
    call.outcome = "ok"
    slug = request.query.get("account", "jo")
    if slug not in ACCOUNTS:
        slug = "jo"
    if request.method == "POST":
        grant = state.grants.get(str((await request.post()).get("grant", "")))
        if grant is not None and not grant.is_revoked:
            state.take_back(grant)
            call.committed, call.client_id, call.account = True, grant.client_id, grant.account
            slug = grant.account
        location = f"/manage-profile/apps?{urlencode({'account': slug, 'removed': '1'})}"
        return web.Response(status=303, headers={"Location": location})
    content = fill(
        "apps.html",
        PROBLEM=Html('<p role="status" id="removed">The app was removed.</p>')
        if "removed" in request.query
        else "",
        TABS=Html("".join(_tab(account.slug, account.name, slug) for account in ACCOUNTS.values())),
        APPS=_apps(state, slug),
    )
    return page("Connected apps", content)


def _tab(slug: str, name: str, chosen: str) -> Html:
    current = 'aria-current="page"' if slug == chosen else ""
    return fill("tab.html", slug=slug, name=name, CURRENT=current)


def _apps(state: State, slug: str) -> Html:
    given = [grant for grant in state.grants.values() if grant.account == slug and not grant.is_revoked]
    if not given:
        return Html('<p id="no-apps">No app has access to this account.</p>')
    return Html("".join(_app(state, grant) for grant in given))


def _app(state: State, grant: Grant) -> Html:
    client = state.clients.get(grant.client_id)
    return fill(
        "app.html",
        grant=grant.id,
        name=(client.name if client else "") or grant.client_id,
        sites=", ".join(SITES[site].name for site in grant.sites) or "no site",
        scopes=", ".join(grant.scopes),
        since=datetime.fromtimestamp(grant.consented_at, tz=UTC).strftime("%d %B %Y, %H:%M UTC"),
    )
