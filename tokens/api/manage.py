"""`manage-links`: let an end user look at their connections, without a login."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import JsonResponse

from tokens.api.shapes import ManageLinkShape, time_shape
from tokens.manage import make_link, manage_url

if TYPE_CHECKING:
    from tokens.api.door import Call


def make_one(call: Call) -> JsonResponse:
    """Make a link to an end user's own page: what they have connected, what happened, and how to disconnect.

    Send the browser of that end user there at once. It works for ten minutes and in the first browser that opens it;
    there the page stays open for an hour.
    """
    link, token = make_link(
        call.application,
        end_user=call.fields["end_user"],
        provider_ids=call.key.provider_ids,
        return_url=call.fields["return_url"],
        actor=call.actor,
    )
    shape: ManageLinkShape = {"url": manage_url(token), "expires_at": time_shape(link.expires_at)}
    return JsonResponse(shape, status=201)
