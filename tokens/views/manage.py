"""The end user's own page of an application: all that they have connected there, and how to take it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_not_required
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from portal.audit import client_address, end_user_of
from portal.models import AuditEvent, Event
from tokens.manage import grants_of, link_in_browser, open_link, unopened_link
from tokens.models import GrantStatus
from tokens.revoke import revoke
from tokens.sessions import is_allowed_return_url
from tokens.views.browser import bind, browser_of, browser_to_bind, in_plain_words, is_prefetch
from tokens.views.connect import SeeOther
from tokens.views.my_connection import HISTORY

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

    from tokens.models import Grant

MOST_GRANTS, MOST_EVENTS = 50, 50


@login_not_required  # End users have no account here; the link is what lets them in.
@require_http_methods(["GET", "HEAD", "POST"])
def manage_open(request: HttpRequest, token: str) -> HttpResponse:
    """Keep the link in this browser, and go on to the page, whose address holds no secret.

    What reads links before people do, in mails and chats, would take it away from them; so a button is pressed first,
    but for a browser that has been here before: nothing that only reads links has its cookie.
    """
    is_known = request.method == "GET" and bool(browser_of(request)) and not is_prefetch(request)
    if request.method != "POST" and not is_known:
        link = unopened_link(token)
        if link is None:
            return _closed(request)
        return render(request, "connect/manage_open.html", {"application": link.application})
    browser = browser_to_bind(request)
    link = open_link(token, browser=browser, ip_address=client_address(request))
    if link is None:
        return _closed(request)
    response = SeeOther(reverse("manage-page", args=[link.pk]))
    bind(response, browser)
    return response


@login_not_required  # The browser that opened the link is what lets end users in.
@require_safe
def manage_page(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show an end user everything that they have connected in an application."""
    link = link_in_browser(pk, browser=browser_of(request))
    if link is None:
        return _closed(request)
    grants = list(grants_of(link).prefetch_related("sites")[:MOST_GRANTS])
    context = {
        "link": link,
        "application": link.application,
        "connections": [_shown(grant) for grant in grants if grant.status != GrantStatus.REVOKED],
        "history": _history(grants),
        # The origin may have been taken off the list since (A12).
        "return_url": link.return_url if is_allowed_return_url(link.application, link.return_url) else "",
    }
    return render(request, "connect/manage.html", context)


@login_not_required  # As above.
@require_http_methods(["GET", "HEAD", "POST"])
def manage_disconnect(request: HttpRequest, pk: uuid.UUID, grant: uuid.UUID) -> HttpResponse:
    """Ask, then take a connection back."""
    link = link_in_browser(pk, browser=browser_of(request))
    if link is None:
        return _closed(request)
    found = get_object_or_404(grants_of(link), pk=grant)
    page = reverse("manage-page", args=[link.pk])
    if request.method == "POST":
        revoke(found, actor=end_user_of(request, found.end_user))
        return SeeOther(page)
    if found.status == GrantStatus.REVOKED:
        return SeeOther(page)
    context = {
        "grant": found,
        "application": link.application,
        "spec": found.provider_config.spec,
        "keep_url": page,
    }
    return render(request, "connect/disconnect.html", context)


def _closed(request: HttpRequest) -> HttpResponse:
    """Say the same of a link that is over, somebody else's, or none."""
    return render(request, "connect/manage_closed.html", status=404)


def _shown(grant: Grant) -> dict[str, object]:
    spec = grant.provider_config.spec
    return {
        "grant": grant,
        "spec": spec,
        "sites": [site for site in grant.sites.all() if site.is_chosen],
        "plain_scopes": in_plain_words(spec, grant.granted_scopes),
        "is_waiting": grant.status == GrantStatus.PENDING,
        "needs_reconnect": grant.status == GrantStatus.NEEDS_RECONNECT,
    }


def _history(grants: list[Grant]) -> list[dict[str, object]]:
    """Return what happened to all of them, newest first, each with whose account it was."""
    accounts = {
        str(grant.pk): f"{grant.provider_config.provider_name}, {grant.account_name or grant.account_id}"
        for grant in grants
    }
    events = AuditEvent.objects.filter(
        subject_kind="grant", subject_id__in=list(accounts), event__in=HISTORY
    )[:MOST_EVENTS]
    return [
        {"at": event.at, "text": HISTORY[Event(event.event)], "account": accounts[event.subject_id]}
        for event in events
    ]
