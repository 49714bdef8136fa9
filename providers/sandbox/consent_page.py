"""The consent page: who asks, for which account, which sites, and what for."""

from urllib.parse import urlsplit

from aiohttp import web

from providers.sandbox.people import ACCOUNTS, SITES
from providers.sandbox.replies import Html, fill, page
from providers.sandbox.scopes import describe
from providers.sandbox.state import ATLASSIAN, AuthorizeRequest, State


def consent_page(
    state: State, context: str, *, preferred: str = "jo", problem: str = "", status: int = 200
) -> web.Response:
    """Render the page for a waiting authorize request; problem is a sentence shown on top."""
    asked = state.pending[context]
    client = state.client(asked.client_id)
    name = (client.name if client else "") or asked.client_id
    content = fill(
        "consent.html",
        action="/authorize/consent" if asked.issuer == ATLASSIAN else "/generic/consent",
        provider="Atlassian" if asked.issuer == ATLASSIAN else "Generic",
        client=name,
        initial=name[:1].upper(),
        client_id=asked.client_id,
        context=context,
        redirect_host=urlsplit(asked.redirect_uri).netloc,
        PROBLEM=fill("problem.html", problem=problem) if problem else Html(""),
        ACCOUNTS=_accounts(preferred),
        SITES=_sites(state, asked),
        SCOPES=_scopes(asked),
    )
    return page("Allow access?", content, status=status)


def _accounts(preferred: str) -> Html:
    chosen = preferred if preferred in ACCOUNTS else "jo"
    return Html(
        "".join(
            fill(
                "choice.html",
                kind="radio",
                name="account",
                id=f"account-{account.slug}",
                value=account.slug,
                title=account.name,
                detail=f"{account.email} · {account.site_names}",
                group="",
                STATE="required checked" if account.slug == chosen else "required",
            )
            for account in ACCOUNTS.values()
        )
    )


def _sites(state: State, asked: AuthorizeRequest) -> Html:
    """Offer a choice only where one is made; an account-level consent covers all sites of the account."""
    if asked.issuer != ATLASSIAN:
        return Html("")
    if state.switches.grant_type == "account":
        return fill("sites_all.html")
    choices = "".join(
        fill(
            "choice.html",
            kind="radio",
            name="site",
            id=f"site-{site.name}",
            value=site.cloud_id,
            title=site.name,
            detail=site.url,
            # The style sheet hides the sites that the chosen account has not.
            group="site "
            + " ".join(f"of-{slug}" for slug, account in ACCOUNTS.items() if site in account.sites),
            STATE="required",
        )
        for site in SITES.values()
    )
    return fill("sites_choose.html", CHOICES=choices)


def _scopes(asked: AuthorizeRequest) -> Html:
    items = []
    for scope in asked.scopes:
        title, description = describe(scope)
        items.append(fill("scope.html", title=title, description=description, scope=scope))
    return Html("".join(items))
