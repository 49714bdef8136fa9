"""Connect sessions: one is a link, good for one connection.

Here they are opened, found again by link or by browser, and asked whether their button may be pressed.
tokens/connect.py carries them out.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.urls import reverse

from portal.audit import Actor, record
from portal.models import Event
from portal.models.applications import digest
from portal.origins import normalise_origin
from providers.catalog_loader import catalog
from tokens.clock import database_now
from tokens.errors import BadReturnUrlError, BadSessionRequestError, ProviderDisabledError
from tokens.failures import ConnectFailedError
from tokens.models import Confirmation, ConnectSession, Grant, GrantStatus
from tokens.models.connect import SessionStatus

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection

    from django.db.models import QuerySet

    from portal.models import Application, User
    from providers.models import ProviderConfig

LINK_LIFETIME = timedelta(hours=24)


def open_session(
    config: ProviderConfig,
    *,
    end_user: str,
    confirmation: Confirmation,
    actor: Actor,
    created_by: User | None = None,
    label: str = "",
    scopes: Collection[str] | None = None,
    return_url: str = "",
    reconnect_grant: Grant | None = None,
    lifetime: timedelta = LINK_LIFETIME,
    token: str = "",
) -> tuple[ConnectSession, str]:
    """Make a connect session and return it with its link token, which is not stored and can't be read again.

    `scopes` may narrow the configuration's, never widen them; `token` is that of a link which is out already, else it
    is a new one. Raises ProviderDisabledError, BadReturnUrlError or BadSessionRequestError.
    """
    if not config.is_working:
        raise ProviderDisabledError
    end_user = end_user.strip()
    if not end_user or len(end_user) > 200 or not end_user.isprintable():
        raise BadSessionRequestError(
            "Give the application's id for the end user: 1 to 200 printable characters."
        )
    if return_url and not is_allowed_return_url(config.application, return_url):
        raise BadReturnUrlError
    if confirmation == Confirmation.CODE and not return_url:
        raise BadSessionRequestError(
            "Give a return URL: the one-time code that confirms the connection is brought there."
        )
    if reconnect_grant and (
        reconnect_grant.provider_config_id != config.pk
        or reconnect_grant.end_user != end_user
        or reconnect_grant.status == GrantStatus.REVOKED
    ):
        raise BadSessionRequestError(
            "This connection cannot be reconnected. Make a new connect link instead."
        )
    wanted = set(config.scopes if scopes is None else scopes) | set(config.spec.required_scopes)
    if unknown := wanted - set(config.scopes):
        raise BadSessionRequestError(f"Not configured for this provider: {', '.join(sorted(unknown))}.")
    token = token or secrets.token_urlsafe(32)
    with transaction.atomic():
        session = ConnectSession.objects.create(
            application=config.application,
            provider_config=config,
            confirmation=confirmation,
            end_user=end_user,
            label=label.strip()[:200],
            scopes=[scope for scope in config.scopes if scope in wanted],
            return_url=return_url,
            reconnect_grant=reconnect_grant,
            created_by=created_by,
            link_digest=digest(token),
            expires_at=database_now() + lifetime,
        )
        record(
            Event.CONNECT_LINK_CREATED,
            actor=actor,
            application=config.application,
            subject=reconnect_grant or session,
            subject_name=end_user,
            provider=config.provider_id,
            reconnect=reconnect_grant is not None,
        )
    return session, token


def connect_url(token: str) -> str:
    """Return the address of a connect link, on PUBLIC_URL."""
    return str(settings.PUBLIC_URL) + reverse("connect-page", args=[token])


def is_allowed_return_url(application: Application, url: str) -> bool:
    """Tell whether a URL's origin is exactly one of the application's (A12).

    The URL is parsed and its parts are put together again: what does not come out the same is refused, and so is
    everything that browsers and parsers read differently.
    """
    if any(ord(character) <= 0x20 or character in "\\\x7f" for character in url) or not url.isascii():
        return False
    try:
        parts = urlsplit(url)
        origin = normalise_origin(f"{parts.scheme}://{parts.netloc}")
    except ValueError:  # An OriginError is one.
        return False
    return url.startswith(f"{parts.scheme}://{parts.netloc}") and origin in application.return_origins


def last_return_url(grant: Grant) -> str:
    """Return where the end user was sent back to last time, or ""."""
    last = grant.connect_sessions.exclude(return_url="").order_by("-created_at").first()
    return last.return_url if last else ""


def find_session(token: str) -> ConnectSession | None:
    """Return the session of a link token, or None."""
    return _sessions().filter(link_digest=digest(token)).first()


def session_in_browser(
    session_id: uuid.UUID, *, browser: str, user_id: int | None = None
) -> ConnectSession | None:
    """Return a session that this browser has started, or None: others can't look at its result (A3).

    A member's own test is there only while that member is signed in (A4).
    """
    if not browser:
        return None
    sessions = _sessions().filter(_for_user(user_id), pk=session_id, browser_digest=digest(browser))
    return sessions.first()


def is_grant_in_browser(grant_id: uuid.UUID, *, browser: str, user_id: int | None = None) -> bool:
    """Tell whether a grant was connected, or reconnected, in this browser: its end user may look at it there."""
    return (
        bool(browser)
        and ConnectSession.objects.filter(
            _for_user(user_id),
            grant_id=grant_id,
            status=SessionStatus.DONE,
            browser_digest=digest(browser),
        ).exists()
    )


def _for_user(user_id: int | None) -> Q:
    """Keep sessions of end users, and the tests of the member who is signed in."""
    return ~Q(confirmation=Confirmation.LOGIN) | Q(created_by_id=user_id, created_by__isnull=False)


def _sessions() -> QuerySet[ConnectSession]:
    return ConnectSession.objects.select_related(
        "application", "provider_config__application", "reconnect_grant", "grant"
    )


def new_browser_secret() -> str:
    """Return a value for the cookie that binds a session to the browser that started it."""
    return secrets.token_urlsafe(32)


def scopes_to_ask(session: ConnectSession) -> list[str]:
    """Return the session's scopes that are still configured: an admin may have taken one away since (A16)."""
    return [scope for scope in session.scopes if scope in session.provider_config.scopes]


def require_usable(session: ConnectSession, *, user_id: int | None = None) -> None:
    """Raise ConnectFailedError unless the session's button may be pressed just now."""
    if session.status == SessionStatus.FAILED:
        raise ConnectFailedError(session.failure or "link_expired")
    if session.status != SessionStatus.OPEN:
        raise ConnectFailedError("link_used")
    if session.is_expired(database_now()):
        raise ConnectFailedError("link_expired")
    require_working(session)
    if session.confirmation == Confirmation.LOGIN and session.created_by_id != user_id:
        raise ConnectFailedError("other_login")


def require_working(session: ConnectSession) -> None:
    """Raise ConnectFailedError where nothing may be connected: switched off, archived, or its catalog file is gone."""
    config = session.provider_config
    if not config.is_working or config.provider_id not in catalog():
        raise ConnectFailedError("provider_disabled")
