"""The end user's own page: what is connected, how it is used, and how to take it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_not_required
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from portal.audit import end_user_of
from portal.models import AuditEvent, Event
from tokens.connect import is_grant_in_browser
from tokens.models import Grant, GrantStatus
from tokens.revoke import revoke
from tokens.upstream import ENDED_UPSTREAM
from tokens.views.browser import browser_of, in_plain_words, member_at
from tokens.views.connect import SeeOther
from tokens.views.failure import failure_page

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

# What people are told of their connection's past, in their words. Refreshes and hand-outs are summed up elsewhere.
HISTORY = {
    Event.GRANT_CONNECTED: "You connected",
    Event.GRANT_CONFIRMED: "The account was confirmed",
    Event.GRANT_RECONNECTED: "You connected again",
    Event.GRANT_SITES_CHANGED: "The sites were changed",
    Event.GRANT_NEEDS_RECONNECT: "Access ended at the provider",
    Event.GRANT_REJECTED: "The account was rejected",
    Event.GRANT_REVOKED: "Disconnected",
}
MOST_EVENTS = 20


@login_not_required  # The browser in which it was connected is what lets end users in.
@require_safe
def my_connection(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show an end user their connection."""
    grant = _grant_here(request, pk)
    if grant is None:
        return failure_page(request, "not_this_browser")
    spec = grant.provider_config.spec
    events = AuditEvent.objects.about_grant(grant.pk).filter(event__in=HISTORY)[:MOST_EVENTS]
    context = {
        "grant": grant,
        "application": grant.application,
        "spec": spec,
        "sites": grant.sites.filter(is_chosen=True),
        "plain_scopes": in_plain_words(spec, grant.granted_scopes),
        "history": [{"at": event.at, "text": HISTORY[Event(event.event)]} for event in events],
        "is_revoked": grant.status == GrantStatus.REVOKED,
        "is_waiting": grant.status == GrantStatus.PENDING,
        "is_ended_upstream": grant.upstream_revocation == ENDED_UPSTREAM,
        "needs_reconnect": grant.status == GrantStatus.NEEDS_RECONNECT,
    }
    return render(request, "connect/my_connection.html", context)


@login_not_required  # As above.
@require_http_methods(["GET", "HEAD", "POST"])
def my_connection_disconnect(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Ask, then take the connection back."""
    grant = _grant_here(request, pk)
    if grant is None:
        return failure_page(request, "not_this_browser")
    page = reverse("my-connection", args=[grant.pk])
    if grant.status == GrantStatus.REVOKED:
        return SeeOther(page)
    if request.method == "POST":
        revoke(grant, actor=end_user_of(request, grant.end_user))
        return SeeOther(page)
    context = {
        "grant": grant,
        "application": grant.application,
        "spec": grant.provider_config.spec,
        "keep_url": page,
    }
    return render(request, "connect/disconnect.html", context)


def _grant_here(request: HttpRequest, pk: uuid.UUID) -> Grant | None:
    """Return the grant if it was connected in this browser; for all others it isn't there."""
    member = member_at(request)
    if not is_grant_in_browser(pk, browser=browser_of(request), user_id=member.pk if member else None):
        return None
    return Grant.objects.select_related("provider_config__application", "application").get(pk=pk)
