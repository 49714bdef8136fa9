"""What every template knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings

from portal.access import PERMISSIONS
from portal.instance import is_foreign
from portal.models import Role

if TYPE_CHECKING:
    from django.http import HttpRequest


def surroundings(request: HttpRequest) -> dict[str, Any]:
    """Add the sandbox and demo notes, and the application one is in with what one may do there.

    In templates: ``{% if "MANAGE_PROVIDERS" in can %}``.
    """
    application = getattr(request, "application", None)
    role = getattr(application, "role", None)
    return {
        "SANDBOX_URL": settings.SANDBOX_URL,
        "is_foreign_database": is_foreign(),
        "DEMO": settings.DEMO,
        "DEMO_EMAIL": settings.DEMO_EMAIL if settings.DEMO else "",
        # Made up and of no worth: it opens demo data on this machine. The sign-in page shows it.
        "DEMO_PASSWORD": settings.DEMO_PASSWORD if settings.DEMO else "",
        "application": application,
        "can": {permission.name for permission in PERMISSIONS[Role(role)]} if role else set(),
    }
