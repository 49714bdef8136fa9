"""How long somebody stays signed in: so long without a click, and so long in all (H1).

Django's own limit is counted from the last change of the session, whatever it was, so it is none by itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import SESSION_KEY, logout
from django.contrib.auth.signals import user_logged_in
from django.contrib.auth.views import redirect_to_login
from django.dispatch import receiver
from django.http import HttpResponse
from django.utils.http import url_has_allowed_host_and_scheme

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.sessions.backends.base import SessionBase
    from django.http import HttpRequest

# In the session: when the person signed in, and when they were last here, both in seconds since 1970.
TIMES = "signed_in_and_seen"
# How exactly the latter is known, in seconds. Each note is a write.
SEEN_EVERY = 300


@receiver(user_logged_in)
def _begin(sender: object, request: HttpRequest, **kwargs: Any) -> None:
    now = int(time.time())
    request.session[TIMES] = [now, now]


class SessionLimitsMiddleware:
    """Sign out whoever has been away for SESSION_IDLE_MINUTES, or signed in for SESSION_COOKIE_AGE."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """End a session that is over, and pass the request on."""
        if SESSION_KEY in request.session:
            if reason := reason_to_end(request.session):
                logout(request)
                request.signed_out = reason  # type: ignore[attr-defined]
            else:
                _note(request)
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        """Say why on the sign-in page, which comes now; a page that asks for news by itself is to be loaded anew."""
        if request.user.is_authenticated or not getattr(view, "login_required", True):
            return None
        page = page_of_the_form(request)
        meanwhile = "You were signed out meanwhile, in another tab perhaps." if page else ""
        if reason := getattr(request, "signed_out", meanwhile):
            messages.info(request, f"{reason} What you just sent was not done." if page else reason)
        if "HX-Request" in request.headers:
            return HttpResponse(status=204, headers={"HX-Refresh": "true"})
        return redirect_to_login(page) if page else None


def reason_to_end(session: SessionBase | dict[str, Any]) -> str | None:
    """Return in words why a session is over, or None."""
    now, idle = int(time.time()), settings.SESSION_IDLE_MINUTES * 60
    signed_in, seen = session.get(TIMES) or (now, 0)
    if now - signed_in >= settings.SESSION_COOKIE_AGE:
        return f"You were signed out after {settings.SESSION_COOKIE_AGE // 3600} hours. Sign in to go on where you were."
    if idle and seen and now - seen >= idle:
        return (
            f"You were signed out, because nothing was clicked for {_words(settings.SESSION_IDLE_MINUTES)}. "
            "Sign in to go on where you were."
        )
    return None


def page_of_the_form(request: HttpRequest) -> str:
    """Return where the form that was sent stood, as a path, or "". What takes a form is often no page to go on at."""
    if request.method != "POST":
        return ""
    before = urlsplit(request.headers.get("Referer", ""))
    is_here = f"{before.scheme}://{before.netloc}" == settings.PUBLIC_URL
    path = before._replace(scheme="", netloc="", fragment="").geturl()
    return path if is_here and url_has_allowed_host_and_scheme(path, allowed_hosts=None) else ""


def _note(request: HttpRequest) -> None:
    """Note that somebody is here. What a page asks by itself is no sign of that."""
    now = int(time.time())
    signed_in, seen = request.session.get(TIMES) or (now, 0)
    if now - seen >= SEEN_EVERY and "X-Poll" not in request.headers:
        request.session[TIMES] = [signed_in, now]


def _words(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    if rest:
        return f"{minutes} minutes" if minutes != 1 else "a minute"
    return f"{hours} hours" if hours != 1 else "an hour"
