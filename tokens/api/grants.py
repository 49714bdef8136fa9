"""`grants`: list them, look at one, revoke one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import JsonResponse

from tokens.api.lookup import grant_of
from tokens.api.problems import BadFieldError
from tokens.api.shapes import grant_shape
from tokens.browse import is_cursor, page_of
from tokens.models import GrantStatus
from tokens.revoke import revoke

if TYPE_CHECKING:
    from tokens.api.door import Call

MOST_ROWS = 100


def list_them(call: Call) -> JsonResponse:
    """List grants, newest first, a page at a time."""
    fields, grants = call.fields, call.grants()
    if end_user := fields.text("end_user", ""):
        grants = grants.filter(end_user=end_user)
    if provider := fields.text("provider", "", most=50):
        grants = grants.filter(provider_config__provider_id=provider)
    if status := fields.one_of("status", GrantStatus.values):
        grants = grants.filter(status=status)
    limit = fields.number("limit", 50, least=1, most=MOST_ROWS)
    cursor = fields.text("cursor", "")
    if cursor and not is_cursor(cursor):
        raise BadFieldError("“cursor” must be the `next_cursor` of an earlier answer.", field="cursor")
    page = page_of(grants, older=cursor, size=limit)
    return JsonResponse(
        {"grants": [grant_shape(grant) for grant in page.rows], "next_cursor": page.older or None}
    )


def show(call: Call, *, pk: str) -> JsonResponse:
    """Show one grant."""
    return JsonResponse(grant_shape(grant_of(call, pk)))


def revoke_one(call: Call, *, pk: str) -> JsonResponse:
    """Revoke a grant, and tell what the provider answered. Revoking twice changes nothing."""
    grant = grant_of(call, pk)
    revoke(grant, actor=call.actor)
    return JsonResponse(grant_shape(grant_of(call, pk)))
