"""The page of something that went wrong while connecting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import render
from django.urls import reverse

from tokens.connect import require_usable
from tokens.failures import FAILURES, ConnectFailedError
from tokens.models import Confirmation
from tokens.views.browser import allow_forms_to_leave, member_at, return_url_of, with_query

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from tokens.models import ConnectSession


# What only a button leads to, and the page to come back to in its place.
PAGES = {
    "connect-start": "connect-page",
    "connect-again": "connect-result",
    "connect-return": "connect-result",
}


def failure_page(
    request: HttpRequest, code: str, *, session: ConnectSession | None = None, result_url: str = ""
) -> HttpResponse:
    """Say what went wrong and what to do next, with the status that goes with it.

    `session` is given only where this browser may know which one it was; `result_url` where there is something
    to look at instead. Nothing that came with the request is repeated (A14).
    """
    words = FAILURES[code]
    names = {"application": "the application", "provider": "the provider"}
    if session:
        names = {
            "application": session.application.name,
            "provider": session.provider_config.provider_name,
        }
    return_url = return_url_of(session) if session else ""
    if session and return_url and not session._state.adding:  # It has no id that the application knows.
        return_url = with_query(return_url, connect_session=str(session.pk), connect_error=code)
    may_try_again = session is not None and words.may_try_again and is_usable(request, session)
    title, text = words.title.format(**names), words.text.format(**names)
    response = render(
        request,
        "connect/failure.html",
        {
            "title": title[:1].upper() + title[1:],
            "text": text[:1].upper() + text[1:],
            "provider_name": names["provider"],
            "session": session,
            "application": session.application if session else None,
            "may_try_again": may_try_again,
            "result_url": result_url,
            "return_url": return_url,
            "come_back_to": _come_back_to(request),
            "for_members": words.admin if _is_own_test(request, session) else "",
        },
        status=words.status,
    )
    if session and may_try_again:
        allow_authorize(response, session)
    return response


def _come_back_to(request: HttpRequest) -> str:
    """Return the page for whoever goes back to this one, which no browser keeps if it answered a form; else ""."""
    match = request.resolver_match
    if request.method != "POST" or match is None:
        return ""
    page = PAGES.get(match.url_name or "")
    return reverse(page, kwargs=match.kwargs) if page else request.path


def allow_authorize(response: HttpResponse, session: ConnectSession) -> None:
    """Let the page's button lead to the session's provider."""
    allow_forms_to_leave(response, session.provider_config.spec.authorize_url)


def is_usable(request: HttpRequest, session: ConnectSession) -> bool:
    """Tell whether pressing the button again could work."""
    member = member_at(request)
    try:
        require_usable(session, user_id=member.pk if member else None)
    except ConnectFailedError:
        return False
    return True


def _is_own_test(request: HttpRequest, session: ConnectSession | None) -> bool:
    """Tell whether a member tests: then the reason is theirs to read."""
    member = member_at(request)
    return (
        session is not None
        and member is not None
        and session.confirmation == Confirmation.LOGIN
        and session.created_by_id == member.pk
    )
