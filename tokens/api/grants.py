"""`grants`: list them, look at one, change, refresh, reconnect or revoke one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import Exists, OuterRef, Q
from django.http import JsonResponse

from portal.audit import record
from portal.models import Event
from providers.spec import Outcome
from tokens.api.connect import opened
from tokens.api.fields import wrong
from tokens.api.lookup import grant_of
from tokens.api.shapes import grant_shape
from tokens.browse import is_cursor, page_of
from tokens.change import change
from tokens.clock import database_now
from tokens.errors import (
    ClientRefusedError,
    NeedsReconnectError,
    ProviderUnavailableError,
    RevokedError,
    UnreadableTokenError,
)
from tokens.models import Confirmation, GrantStatus, Site, Trigger
from tokens.refresh import refresh_now
from tokens.results import FENCED, REVOKED, UNREADABLE
from tokens.revoke import revoke
from tokens.sessions import last_return_url, open_session

if TYPE_CHECKING:
    from tokens.api.door import Call
    from tokens.models import Grant
    from tokens.results import Committed

MOST_ROWS = 100
JUST_NOW = timedelta(seconds=10)


def list_them(call: Call) -> JsonResponse:
    """List grants, newest first, a page at a time.

    Go on with `next_cursor` until it is null. What comes in meanwhile shifts nothing.
    """
    fields, grants = call.fields, call.grants()
    if fields["end_user"]:
        grants = grants.filter(end_user=fields["end_user"])
    if fields["provider"]:
        grants = grants.filter(provider_config__provider_id=fields["provider"])
    if fields["status"]:
        grants = grants.filter(status=fields["status"])
    if site := fields["site"]:
        is_it = Q(cloud_id=site) | Q(name=site) | Q(url=site.rstrip("/"))
        grants = grants.filter(Exists(Site.objects.filter(is_it, grant=OuterRef("pk"), is_chosen=True)))
    if fields["cursor"] and not is_cursor(fields["cursor"]):
        raise wrong("cursor", "must be the `next_cursor` of an earlier answer.")
    page = page_of(grants, older=fields["cursor"], size=fields["limit"])
    return JsonResponse(
        {"grants": [grant_shape(grant) for grant in page.rows], "next_cursor": page.older or None}
    )


def show(call: Call, *, pk: str) -> JsonResponse:
    """Show one grant."""
    return JsonResponse(grant_shape(grant_of(call, pk)))


def change_one(call: Call, *, pk: str) -> JsonResponse:
    """Change a grant's label or metadata; nothing else can be written.

    What is left out stays as it is. Metadata is replaced as a whole.
    """
    fields, grant = call.fields, grant_of(call, pk)
    change(
        grant,
        label=fields.given("label"),
        metadata=fields.given("metadata"),
        actor=call.actor,
    )
    return JsonResponse(grant_shape(grant_of(call, pk)))


def refresh_one(call: Call, *, pk: str) -> JsonResponse:
    """Refresh a grant's tokens now, before they are due.

    Nobody needs to: a token that is asked for is fresh. Within ten seconds of a refresh nothing is done, and while the
    provider is failing it is not asked more often than the portal itself asks it.
    """
    grant = grant_of(call, pk)
    if grant.status == GrantStatus.ACTIVE and _is_just_refreshed(grant):
        return JsonResponse(grant_shape(grant))
    record(Event.GRANT_REFRESH_REQUESTED, actor=call.actor, application=call.application, subject=grant)
    _require_refreshed(grant, refresh_now(grant, trigger=Trigger.API, is_forced=False))
    return JsonResponse(grant_shape(grant_of(call, pk)))


def _is_just_refreshed(grant: Grant) -> bool:
    """Tell whether a second click, or a second caller, asks for what has just been done."""
    return grant.refreshed_at is not None and database_now() - grant.refreshed_at < JUST_NOW


def _require_refreshed(grant: Grant, committed: Committed) -> None:
    if committed.outcome in (Outcome.OK, FENCED):
        if committed.cause == REVOKED:
            raise RevokedError
        return
    # A refusal counts when it was confirmed; until then the portal tries once more by itself.
    grant.refresh_from_db(fields=["status", "gen"])
    if grant.status == GrantStatus.NEEDS_RECONNECT:
        raise NeedsReconnectError(grant)
    errors = {Outcome.CLIENT_BAD: ClientRefusedError, UNREADABLE: UnreadableTokenError}
    raise errors.get(committed.outcome, ProviderUnavailableError)


def reconnect_one(call: Call, *, pk: str) -> JsonResponse:
    """Make the link with which the end user repairs a grant in place.

    It is a connect session like any other, and the grant keeps its id. Without a return_url the end user comes back
    to where the last one led.
    """
    grant = grant_of(call, pk)
    if grant.revoked_at:
        raise RevokedError
    return_url = call.fields["return_url"] or last_return_url(grant)
    if not return_url:
        raise wrong("return_url", "is missing, and no earlier connect session of this grant had one.")
    session, token = open_session(
        grant.provider_config,
        end_user=grant.end_user,
        confirmation=Confirmation.CODE,
        actor=call.actor,
        label=grant.label,
        scopes=call.fields["scopes"],
        return_url=return_url,
        reconnect_grant=grant,
    )
    return opened(session, token)


def revoke_one(call: Call, *, pk: str) -> JsonResponse:
    """Revoke a grant.

    Our tokens are erased at once, and `upstream_revocation` says what the provider answered. Revoking twice changes
    nothing.
    """
    grant = grant_of(call, pk)
    revoke(grant, actor=call.actor)
    return JsonResponse(grant_shape(grant_of(call, pk)))
