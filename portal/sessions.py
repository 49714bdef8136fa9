"""Where somebody is signed in: listed and ended at a fixed number of statements, however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allauth.usersessions.adapter import DefaultUserSessionsAdapter
from allauth.usersessions.models import UserSession
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.sessions.models import Session
from django.db.models.functions import Now

from portal.session_limits import reason_to_end

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portal.models import User


class SessionsAdapter(DefaultUserSessionsAdapter):  # type: ignore[misc]
    """allauth ends one session after the other."""

    def end_sessions(self, sessions: Iterable[UserSession]) -> None:
        """Sign the browsers out."""
        end_sessions(session.session_key for session in sessions)


def sessions_of(user: User) -> list[UserSession]:
    """Return where a user is signed in, the oldest first; what is over is ended."""
    listed = list(UserSession.objects.filter(user=user).order_by("created_at"))
    keys = [session.session_key for session in listed]
    # A session from before the password was changed opens nothing any more.
    hashes = {user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()}
    alive = set()
    for stored in Session.objects.filter(session_key__in=keys, expire_date__gt=Now()):
        content = stored.get_decoded()
        if content.get(HASH_SESSION_KEY) in hashes and not reason_to_end(content):
            alive.add(stored.session_key)
    end_sessions(key for key in keys if key not in alive)
    return [session for session in listed if session.session_key in alive]


def end_sessions(keys: Iterable[str]) -> None:
    """End sessions and list them no more. Both: what is no longer listed can't be signed out."""
    over = list(keys)
    if over:
        Session.objects.filter(session_key__in=over).delete()
        UserSession.objects.filter(session_key__in=over).delete()
