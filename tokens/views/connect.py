"""The pages on which an end user connects: the link, the trip to the provider, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import redirect_to_login
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST, require_safe

from portal.audit import end_user_of
from tokens.connect import (
    Callback,
    find_session,
    receive,
    require_usable,
    scopes_to_ask,
    start,
)
from tokens.failures import ConnectFailedError
from tokens.models import Confirmation
from tokens.models.connect import SessionStatus
from tokens.views.browser import (
    actor_at,
    bind,
    browser_of,
    browser_to_bind,
    in_plain_words,
    is_prefetch,
    keeps_its_opener,
    member_at,
    session_here,
)
from tokens.views.failure import allow_authorize, failure_page

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest

    from tokens.models import ConnectSession


class SeeOther(HttpResponseRedirect):
    """303: whatever the method was, the next request is a GET (RFC 9110 section 15.4.4)."""

    status_code = 303


@login_not_required  # End users have no account here; the link is what lets them in.
@require_safe
@keeps_its_opener
def connect_page(request: HttpRequest, token: str) -> HttpResponse:
    """Say who asks for what, with one button. Opening the page does nothing yet (A1)."""
    session = find_session(token)
    if session is None:
        return failure_page(request, "unknown_link")
    member = member_at(request)
    if session.confirmation == Confirmation.LOGIN and member is None:
        return redirect_to_login(request.get_full_path())
    try:
        require_usable(session, user_id=member.pk if member else None)
    except ConnectFailedError as failure:
        return unusable(request, session, failure)
    return start_page(request, session, start_url=reverse("connect-start", args=[token]))


def start_page(request: HttpRequest, session: ConnectSession, *, start_url: str) -> HttpResponse:
    """Return the page with the button; it posts to `start_url`."""
    spec = session.provider_config.spec
    response = render(
        request,
        "connect/start.html",
        {
            "session": session,
            "application": session.application,
            "spec": spec,
            "plain_scopes": in_plain_words(spec, scopes_to_ask(session)),
            "start_url": start_url,
        },
    )
    allow_authorize(response, session)
    return response


@login_not_required  # As above: the link is what lets them in, and a test connection checks the login itself.
@require_POST
@keeps_its_opener
def connect_start(request: HttpRequest, token: str) -> HttpResponse:
    """Bind the session to this browser and send it to the provider (A1)."""
    session = find_session(token)
    if session is None:
        return failure_page(request, "unknown_link")
    if session.confirmation == Confirmation.LOGIN and member_at(request) is None:
        return redirect_to_login(reverse("connect-page", args=[token]))
    return to_provider(request, session)


@login_not_required  # The browser that started is what lets them in.
@require_POST
@keeps_its_opener
def connect_again(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Start once more from the page of a failure, in the browser that started before."""
    session = session_here(request, pk)
    if session is None:
        return failure_page(request, "not_this_browser")
    return to_provider(request, session)


@login_not_required  # The provider sends end users back here; cookie and state say whether they are expected.
@require_GET  # Not HEAD: looking must not spend the state.
@keeps_its_opener
def connect_callback(request: HttpRequest, slug: str, provider_id: str) -> HttpResponse:
    """Take what the browser brings back, and show what came of it at an address without code and state (A13)."""
    response = _received(request, slug, provider_id)
    # The address holds the code: it goes nowhere from here (RFC 9700 section 4.2.4).
    response["Referrer-Policy"] = "no-referrer"
    response["Cache-Control"] = "no-store"
    return response


def _received(request: HttpRequest, slug: str, provider_id: str) -> HttpResponse:
    if is_prefetch(request):
        return HttpResponse(status=503)
    if any(len(values) > 1 for _, values in request.GET.lists()):
        return failure_page(request, "bad_callback")
    member = member_at(request)
    callback = Callback(
        slug=slug,
        provider_id=provider_id,
        params=request.GET.dict(),
        browser=browser_of(request),
        user_id=member.pk if member else None,
    )
    try:
        session = receive(callback, actor=end_user_of(request, ""))
    except ConnectFailedError as failure:
        if failure.session is None:
            return failure_page(request, failure.code)
        return SeeOther(reverse("connect-result", args=[failure.session.pk]))
    page = "connect-sites" if session.status == SessionStatus.CHOOSING else "connect-result"
    return SeeOther(reverse(page, args=[session.pk]))


def to_provider(request: HttpRequest, session: ConnectSession) -> HttpResponse:
    """Bind the session to this browser and send it to the provider, or say why not."""
    browser = browser_to_bind(request)
    try:
        url = start(session, browser=browser, user=member_at(request), actor=actor_at(request, session))
    except ConnectFailedError as failure:
        return unusable(request, session, failure)
    response = SeeOther(url)
    bind(response, browser)
    return response


def unusable(request: HttpRequest, session: ConnectSession, failure: ConnectFailedError) -> HttpResponse:
    """Say why the button can't be pressed; in the browser that used the link, with the way to what came of it."""
    result_url = ""
    if failure.code in ("link_used", "already_repaired") and session_here(request, session.pk):
        page = "connect-sites" if session.status == SessionStatus.CHOOSING else "connect-result"
        result_url = reverse(page, args=[session.pk])
    return failure_page(request, failure.code, session=session, result_url=result_url)
