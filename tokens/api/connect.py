"""`connect/sessions` and `connect/exchange`: from a link to an active grant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import JsonResponse
from django.urls import reverse

from portal.models.applications import digest
from tokens.api.lookup import config_of, grant_of, session_of
from tokens.api.shapes import grant_shape, session_shape
from tokens.confirm import exchange_return_code
from tokens.errors import ReturnCodeError
from tokens.models import Confirmation
from tokens.sessions import connect_url, open_session

if TYPE_CHECKING:
    from tokens.api.door import Call
    from tokens.models import ConnectSession


def open_one(call: Call) -> JsonResponse:
    """Make a connect session and return its link."""
    fields = call.fields
    session, token = open_session(
        config_of(call, fields["provider"]),
        end_user=fields["end_user"],
        confirmation=Confirmation.CODE,
        actor=call.actor,
        label=fields["label"],
        scopes=fields["scopes"],
        return_url=fields["return_url"],
        reconnect_grant=grant_of(call, fields["reconnect"]) if fields["reconnect"] else None,
    )
    return opened(session, token)


def opened(session: ConnectSession, token: str) -> JsonResponse:
    """Answer with a new session and its link, which is told this once."""
    return JsonResponse(
        {**session_shape(session), "url": connect_url(token)},
        status=201,
        headers={"Location": reverse("api-connect-session", args=[session.pk])},
    )


def show(call: Call, *, pk: str) -> JsonResponse:
    """Tell how a connect session stands."""
    return JsonResponse(session_shape(session_of(call, pk)))


def exchange(call: Call) -> JsonResponse:
    """Trade the one-time code for the grant, which is active from now on.

    Only this makes it active: whoever was sent somebody else's link gains nothing.
    """
    code, end_user = call.fields["code"], call.fields["end_user"]
    # A code for a provider that the key may not be used for stays good for the key that may.
    if not call.sessions().filter(return_code_digest=digest(code)).exists():
        raise ReturnCodeError
    grant = exchange_return_code(call.application, code=code, end_user=end_user, actor=call.actor)
    return JsonResponse(grant_shape(grant_of(call, str(grant.pk))))
