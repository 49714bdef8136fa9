"""The request as our views see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpRequest

if TYPE_CHECKING:
    from django_htmx.middleware import HtmxDetails

    from portal.models import Application, User


class PortalRequest(HttpRequest):
    """A request of a signed-in member."""

    user: User  # type: ignore[assignment]
    htmx: HtmxDetails
    request_id: str
    # Set by portal.access.application_for.
    application: Application
