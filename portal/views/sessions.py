"""Where somebody is signed in: allauth's page, at a fixed number of statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allauth.usersessions.models import UserSession
from allauth.usersessions.views import ListUserSessionsView
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.sessions.models import Session
from django.db.models.functions import Now
from django.views.generic.edit import FormView

from portal.session_limits import reason_to_end

if TYPE_CHECKING:
    from portal.models import User


class SessionListView(ListUserSessionsView):  # type: ignore[misc]
    """allauth asks the database three times for each session; this asks once for all."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return the template's context, past allauth's own."""
        sessions = sessions_of(self.request.user)
        return FormView.get_context_data(self, sessions=sessions, session_count=len(sessions), **kwargs)


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
    over = [key for key in keys if key not in alive]
    if over:
        # Both: what is no longer listed can't be signed out here.
        Session.objects.filter(session_key__in=over).delete()
        UserSession.objects.filter(session_key__in=over).delete()
    return [session for session in listed if session.session_key in alive]
