"""The request as our views see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpRequest

if TYPE_CHECKING:
    from django.http import QueryDict
    from django_htmx.middleware import HtmxDetails

    from portal.models import Application, User


class PortalRequest(HttpRequest):
    """A request of a signed-in member."""

    user: User
    htmx: HtmxDetails
    request_id: str
    # Set by portal.access.application_for.
    application: Application
    # What else the switcher offers.
    other_applications: list[Application]


def posted(request: HttpRequest) -> QueryDict | None:
    """Return what a form is bound to: the posted fields, or None where the page is only looked at.

    ``request.POST or None`` would take an empty POST for a look.
    """
    return request.POST if request.method == "POST" else None
