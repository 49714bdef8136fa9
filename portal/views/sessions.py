"""Where somebody is signed in: allauth's page, at a fixed number of statements."""

from __future__ import annotations

from typing import Any

from allauth.usersessions.views import ListUserSessionsView
from django.views.generic.edit import FormView

from portal.sessions import sessions_of


class SessionListView(ListUserSessionsView):  # type: ignore[misc]
    """allauth asks the database three times for each session; this asks once for all."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Return the template's context, past allauth's own."""
        sessions = sessions_of(self.request.user)
        return FormView.get_context_data(self, sessions=sessions, session_count=len(sessions), **kwargs)
