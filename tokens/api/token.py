"""`GET grants/{id}/token` and `GET token`: one call to a fresh access token."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.http import JsonResponse

from tokens.api.lookup import config_of, grant_of
from tokens.api.problems import AmbiguousError, NotFoundError
from tokens.api.shapes import candidate_shape, token_shape
from tokens.hand_out import hand_out
from tokens.models import GrantStatus

if TYPE_CHECKING:
    from tokens.api.door import Call
    from tokens.models import Grant

# Seconds that an access token is good for at least, unless the caller asks for more: time to make a call with it.
MIN_TTL = 60
MOST_MIN_TTL = 3600
MOST_CANDIDATES = 50


def of_grant(call: Call, *, pk: str) -> JsonResponse:
    """Hand out the token of one grant."""
    return _handed_out(call, grant_of(call, pk))


def of_end_user(call: Call) -> JsonResponse:
    """Hand out the token of an end user's only connection with a provider. None is chosen silently."""
    grants = call.grants().filter(
        end_user=call.fields["end_user"], provider_config__provider_id=call.fields["provider"]
    )
    alive = list(grants.exclude(status=GrantStatus.REVOKED)[:MOST_CANDIDATES])
    # What nobody has vouched for yet stands in nobody's way.
    found = [grant for grant in alive if grant.status != GrantStatus.PENDING] or alive
    if not found:
        # A provider that was misspelt is no reason to ask anybody to connect.
        config_of(call, call.fields["provider"])
        raise NotFoundError("This end user has no connection with the provider. Make a connect session.")
    if len(found) > 1:
        raise AmbiguousError(candidates=[candidate_shape(grant) for grant in found])
    return _handed_out(call, found[0])


def _handed_out(call: Call, grant: Grant) -> JsonResponse:
    min_ttl = timedelta(seconds=call.fields["min_ttl"])
    return JsonResponse(token_shape(hand_out(grant, min_ttl=min_ttl, actor=call.actor)))
