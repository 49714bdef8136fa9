"""The cookie that binds connecting to one browser, and what else the pages of end users share."""

from __future__ import annotations

import re
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec
from urllib.parse import unquote_plus, urlencode, urlsplit, urlunsplit

from csp.constants import SELF
from django.conf import settings
from django.utils.cache import patch_vary_headers

from portal.audit import end_user_of, member_of
from tokens.connect import is_allowed_return_url, new_browser_secret, session_in_browser
from tokens.models import Confirmation

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Iterable

    from django.http import HttpRequest, HttpResponse

    from portal.audit import Actor
    from portal.models import User
    from providers.spec import ProviderSpec
    from tokens.models import ConnectSession

P = ParamSpec("P")

# Browsers and link previews say so when they fetch a page that nobody has asked for yet.
_PREFETCH_HEADERS = ("Sec-Purpose", "Purpose", "X-Moz", "X-Purpose")
COOKIE_DAYS = 365
# What new_browser_secret makes. Anything else was not set by us.
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


def cookie_name() -> str:
    """Return the name of the cookie; with its prefix, no other host can set it (H2)."""
    return str(settings.COOKIE_PREFIX) + "connect"


def browser_of(request: HttpRequest) -> str:
    """Return the secret of this browser, or "" if it has none."""
    value = request.COOKIES.get(cookie_name(), "")
    return value if _SECRET.fullmatch(value) else ""


def browser_to_bind(request: HttpRequest) -> str:
    """Return the secret of this browser, or a new one."""
    return browser_of(request) or new_browser_secret()


def bind(response: HttpResponse, browser: str) -> None:
    """Keep the secret in the browser, for a year from now on.

    Lax, not Strict: the return from the provider must bring it along (A3).
    """
    response.set_cookie(
        cookie_name(),
        browser,
        max_age=COOKIE_DAYS * 86_400,
        path="/",
        secure=not settings.INSECURE_HTTP,
        httponly=True,
        samesite="Lax",
    )
    patch_vary_headers(response, ["Cookie"])


def is_prefetch(request: HttpRequest) -> bool:
    """Tell whether a browser fetches the page before anybody has asked for it."""
    return any("prefetch" in request.headers.get(name, "").lower() for name in _PREFETCH_HEADERS)


def member_at(request: HttpRequest) -> User | None:
    """Return the member of the portal who is signed in here, if any."""
    return request.user if request.user.is_authenticated else None


def session_here(request: HttpRequest, pk: uuid.UUID) -> ConnectSession | None:
    """Return a session that this browser, and the member who tests in it, has started."""
    member = member_at(request)
    return session_in_browser(pk, browser=browser_of(request), user_id=member.pk if member else None)


def actor_at(request: HttpRequest, session: ConnectSession) -> Actor:
    """Return who acts in a session, for the audit log: the member who tests, or the application's end user."""
    if session.confirmation == Confirmation.LOGIN and member_at(request) is not None:
        return member_of(request)
    return end_user_of(request, session.end_user)


def keeps_its_opener(view: Callable[P, HttpResponse]) -> Callable[P, HttpResponse]:
    """Let the page that opened a pop-up see when the person closes it, which is all that connect.js looks at.

    Elsewhere Cross-Origin-Opener-Policy cuts openers off (H4); one that is kept may close the window or send it elsewhere,
    but reads nothing of it, and none of our pages listens to messages or has frames. Every step from the link to the return
    needs it, redirects included: what is cut once stays cut.
    """

    @wraps(view)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        response = view(*args, **kwargs)
        response["Cross-Origin-Opener-Policy"] = "unsafe-none"
        return response

    return wrapped


def allow_forms_to_leave(response: HttpResponse, *urls: str) -> None:
    """Let this page's forms be redirected to the origins of these addresses.

    Chromium holds every step of the redirects that follow a form against `form-action`, and a provider sends people on
    to hosts that nobody can list: its own sign-in, a company's, the consent page. So any https address will do, on the
    few pages whose button leads away; elsewhere forms stay with us.
    """
    origins = {f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, filter(None, urls))}
    if origins:
        response._csp_update = {"form-action": [SELF, "https:", *sorted(origins)]}  # type: ignore[attr-defined]  # noqa: SLF001 - Where django-csp looks for what one response adds.


def with_query(url: str, **added: str) -> str:
    """Return a URL with parameters added to its query, in place of those of the same names; all else stays as it is."""
    parts = urlsplit(url)
    kept = [
        pair for pair in parts.query.split("&") if pair and unquote_plus(pair.partition("=")[0]) not in added
    ]
    return urlunsplit(parts._replace(query="&".join([*kept, urlencode(added)])))


def return_url_of(session: ConnectSession) -> str:
    """Return where the application wants its user back, or "" if it named no place or may not any more (A12)."""
    url = session.return_url
    return url if url and is_allowed_return_url(session.application, url) else ""


def in_plain_words(spec: ProviderSpec, names: Iterable[str]) -> list[str]:
    """Return what scopes let an application do, in the catalog's order, nothing twice.

    A scope that has left the catalog is named as it is: it was given all the same.
    """
    wanted = set(names)
    known = [scope.plain for name, scope in spec.scopes.items() if name in wanted]
    return list(dict.fromkeys([*known, *sorted(wanted - spec.scopes.keys())]))
