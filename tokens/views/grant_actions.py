"""What members do to one connection: refresh, confirm, reject, revoke."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from portal.access import Permission, application_for
from portal.audit import member_of, record
from portal.models import Event
from providers.catalog_loader import catalog
from providers.spec import Outcome
from tokens.confirm import confirm, reject
from tokens.errors import TokenError
from tokens.models import GrantStatus, Trigger
from tokens.refresh import refresh_now
from tokens.results import FENCED, REVOKED
from tokens.revoke import revoke
from tokens.views.grants import WHAT_TO_DO, grant_of

if TYPE_CHECKING:
    import uuid

    from django.http import HttpResponse

    from portal.requests import PortalRequest
    from tokens.results import Committed


@require_POST
def grant_refresh(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Refresh now, and say what came of it."""
    application = application_for(request, slug, Permission.OPERATE_GRANTS)
    grant = grant_of(application, pk)
    record(Event.GRANT_REFRESH_REQUESTED, actor=member_of(request), application=application, subject=grant)
    try:
        committed = refresh_now(grant, trigger=Trigger.MEMBER)
    except TokenError as error:
        messages.warning(request, error.message)
    else:
        is_fresh = committed.outcome in (Outcome.OK, FENCED) and committed.cause != REVOKED
        tell = messages.success if is_fresh else messages.warning
        tell(request, in_words(committed))
    return redirect(grant)


def in_words(committed: Committed) -> str:
    """Say what a refresh came to, and what to do."""
    if committed.outcome == Outcome.OK:
        return "Refreshed. The new access token is in place."
    if committed.outcome == FENCED and committed.cause == REVOKED:
        return "Not refreshed: the connection was revoked meanwhile, and its new tokens were dropped."
    if committed.outcome == FENCED:
        return "Another refresh was faster. The new access token is in place."
    cause = committed.cause or committed.outcome.replace("_", " ")
    return f"Not refreshed: {cause}. {WHAT_TO_DO.get(committed.outcome, '')}".strip()


@require_POST
def grant_confirm(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Vouch for the account of a waiting connection."""
    application = application_for(request, slug, Permission.MANAGE_GRANTS)
    grant = grant_of(application, pk)
    try:
        confirm(grant, actor=member_of(request))
    except TokenError as error:
        messages.warning(request, error.message)
    else:
        messages.success(
            request, f"Confirmed. {application.name} can use the connection of {grant.end_user} now."
        )
    return redirect(grant)


@require_POST
def grant_reject(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Take a waiting connection back, because the account is somebody else's."""
    application = application_for(request, slug, Permission.MANAGE_GRANTS)
    grant = grant_of(application, pk)
    try:
        reject(grant, actor=member_of(request))
    except TokenError as error:
        messages.warning(request, error.message)
    else:
        messages.success(request, "Rejected. Its tokens are erased, and nothing was ever handed out.")
    return redirect(grant)


@require_http_methods(["GET", "HEAD", "POST"])
def grant_revoke(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Take a connection back: ask first, saying truthfully what ends and what does not."""
    application = application_for(request, slug, Permission.MANAGE_GRANTS)
    grant = grant_of(application, pk)
    if grant.status == GrantStatus.REVOKED:
        messages.info(request, "This connection was revoked before; its tokens are erased.")
        return redirect(grant)
    if request.method == "POST":
        revoked = revoke(grant, actor=member_of(request))
        messages.success(request, f"Revoked. Our tokens are erased; upstream: {revoked.upstream_revocation}.")
        return redirect(grant)
    return render(
        request,
        "tokens/grant_revoke.html",
        {"grant": grant, "spec": catalog().get(grant.provider_config.provider_id)},
    )
