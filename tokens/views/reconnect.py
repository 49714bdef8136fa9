"""The page of the reconnect link that a back end gets with `needs_reconnect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_not_required
from django.views.decorators.http import require_http_methods

from portal.audit import client_address, request_id
from tokens.connect import require_usable
from tokens.failures import ConnectFailedError
from tokens.reconnect import look_up, press
from tokens.views.browser import keeps_its_opener
from tokens.views.connect import start_page, to_provider, unusable
from tokens.views.failure import failure_page

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@login_not_required  # End users have no account here; the link is what lets them in.
@require_http_methods(["GET", "HEAD", "POST"])
@keeps_its_opener
def reconnect_page(request: HttpRequest, token: str) -> HttpResponse:
    """Say who asks for what, with one button, which leads to the provider. Looking changes nothing (A1)."""
    is_pressed = request.method == "POST"
    try:
        if is_pressed:
            session = press(token, ip_address=client_address(request), request_id=request_id(request))
        else:
            session = look_up(token)
    except ConnectFailedError as failure:
        if failure.session is None:
            return failure_page(request, failure.code)
        return unusable(request, failure.session, failure)
    if is_pressed:
        return to_provider(request, session)
    try:
        require_usable(session)
    except ConnectFailedError as failure:
        return unusable(request, session, failure)
    return start_page(request, session, start_url=request.path)
