"""Connections: the list, and the page of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.shortcuts import get_object_or_404, render
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from portal.access import application_for
from providers.catalog_loader import catalog
from providers.models import ProviderConfig
from providers.spec import Outcome
from tokens import browse
from tokens.clock import database_now
from tokens.models import Grant, GrantStatus
from tokens.results import UNREADABLE
from tokens.state import describe
from tokens.timeline import timeline_of

if TYPE_CHECKING:
    import uuid

    from django.db.models import QuerySet
    from django.http import HttpResponse

    from portal.models import Application
    from portal.requests import PortalRequest
    from providers.spec import Scope

# Connections of the same account that the detail page names.
SHARED_SHOWN = 5

WHAT_TO_DO = {
    Outcome.GRANT_DEAD: "Send the person a reconnect link; connecting again repairs this very connection.",
    Outcome.CLIENT_BAD: "An admin must replace the client secret under OAuth Providers. No person has to do anything.",
    Outcome.NOT_SENT: "There is nothing to do: we keep trying, and nothing is lost.",
    Outcome.THROTTLED: "There is nothing to do: we wait as long as the provider asked, then try again.",
    Outcome.AMBIGUOUS: "There is nothing to do: we keep trying with the same token, as long as the provider allows it.",
    UNREADABLE: "Send the person a reconnect link: connecting again replaces what cannot be read.",
}


@require_safe
def grant_list(request: PortalRequest, slug: str) -> HttpResponse:
    """List connections, newest first, with search and filters; htmx asks for the table alone."""
    application = application_for(request, slug)
    configs = {config.pk: config for config in ProviderConfig.objects.visible_to(application)}
    query = {name: request.GET.get(name, "").strip() for name in ("q", "status", "provider")}
    query = {name: value for name, value in query.items() if value}
    grants: QuerySet[Grant] = Grant.objects.visible_to(application)
    if query.get("status") in browse.STATUS_FILTERS:
        grants = grants.filter(browse.STATUS_FILTERS[query["status"]][1])
    if "provider" in query:
        chosen = [config.pk for config in configs.values() if config.provider_id == query["provider"]]
        grants = grants.filter(provider_config__in=chosen)
    grants = browse.searched(grants, query.get("q", ""))
    page = browse.page_of(
        browse.with_site_names(grants), newer=request.GET.get("newer", ""), older=request.GET.get("older", "")
    )
    now = database_now()
    rows = []
    for grant in page.rows:
        grant.application, grant.provider_config = application, configs[grant.provider_config_id]
        grant.provider_config.application = application
        rows.append((grant, describe(grant, now)))
    context = {
        "rows": rows,
        "count": _count_in_words(len(rows) if page.is_whole else browse.count_up_to(grants)),
        "query": query,
        "is_filtered": bool(query),
        "statuses": [(value, word) for value, (word, _) in browse.STATUS_FILTERS.items()],
        "configs": list(configs.values()),
        "newer_url": _url(query, newer=page.newer),
        "older_url": _url(query, older=page.older),
    }
    return render(request, "tokens/grant_list.html" + ("#grants" if request.htmx else ""), context)


@require_safe
def grant_detail(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Show one connection; htmx asks for the changing part alone."""
    application = application_for(request, slug)
    grant = grant_of(application, pk)
    now = database_now()
    before = request.GET.get("before", "")
    timeline = timeline_of(grant, before=before, now=now)
    spec = catalog().get(grant.provider_config.provider_id)
    context = {
        "grant": grant,
        "spec": spec,
        "state": describe(grant, now),
        "sites": list(grant.sites.order_by("-is_chosen", "name", "cloud_id")),
        "scopes": scopes_of(grant),
        "shared": _shared(grant),
        "what_to_do": WHAT_TO_DO.get(grant.fail_outcome, ""),
        "timeline": timeline,
        "is_older_page": bool(before),
        "is_alive": grant.status != GrantStatus.REVOKED,
        "is_working": spec is not None and grant.provider_config.is_working,
        "is_ending": grant.status == GrantStatus.ACTIVE
        and grant.absolute_deadline is not None
        and grant.absolute_deadline < now + browse.REMIND_BEFORE,
        "is_pending": grant.status == GrantStatus.PENDING,
        "may_refresh": grant.status in (GrantStatus.ACTIVE, GrantStatus.NEEDS_RECONNECT),
    }
    return render(request, "tokens/grant_detail.html" + ("#live" if request.htmx else ""), context)


def grant_of(application: Application, pk: uuid.UUID) -> Grant:
    """Return one grant of an application, or raise Http404."""
    grants = Grant.objects.visible_to(application).select_related("provider_config")
    grant = get_object_or_404(grants, pk=pk)
    grant.application = grant.provider_config.application = application
    return grant


@dataclass(frozen=True)
class GrantScope:
    """One scope of a grant, in the catalog's words if it has any."""

    name: str
    scope: Scope | None
    is_granted: bool
    is_requested: bool


def scopes_of(grant: Grant) -> list[GrantScope]:
    """Return what was asked for and what was granted, in the catalog's order; unknown names last."""
    spec = catalog().get(grant.provider_config.provider_id)
    known = spec.scopes if spec else {}
    names = dict.fromkeys([*grant.requested_scopes, *grant.granted_scopes])
    order = {name: place for place, name in enumerate(known)}
    return [
        GrantScope(name, known.get(name), name in grant.granted_scopes, name in grant.requested_scopes)
        for name in sorted(names, key=lambda name: (order.get(name, len(order)), name))
    ]


def _shared(grant: Grant) -> list[Grant]:
    """Return other connections of the same account here: at the provider, they are one access."""
    others = Grant.objects.filter(provider_config=grant.provider_config, account_id=grant.account_id)
    shared = (
        list(others.alive().exclude(pk=grant.pk)[:SHARED_SHOWN])
        if grant.status != GrantStatus.REVOKED
        else []
    )
    for other in shared:
        other.application = grant.application
    return shared


def _count_in_words(count: int) -> str:
    if count > browse.COUNT_LIMIT:
        return f"{browse.COUNT_LIMIT:,}+ connections"
    return f"{count:,} connection" + ("" if count == 1 else "s")


def _url(query: dict[str, str], **cursor: str) -> str:
    return "?" + urlencode(query | cursor) if all(cursor.values()) else ""
