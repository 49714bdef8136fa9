"""Who may do what: one table of roles, one way to look an application up."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from django.core.exceptions import PermissionDenied
from django.http import Http404

from portal import instance
from portal.models import Application, Role

if TYPE_CHECKING:
    from portal.requests import PortalRequest

# The switcher is a shortcut; the list of applications shows them all.
SWITCHER_LENGTH = 8


class Permission(enum.StrEnum):
    """One thing that a member may be allowed to do in an application."""

    VIEW = "view"
    VIEW_AUDIT = "view the audit log"
    OPERATE_GRANTS = "refresh connections and copy reconnect links"
    MANAGE_GRANTS = "connect, confirm and revoke"
    MANAGE_PROVIDERS = "add, change and remove OAuth providers"
    MANAGE_WEBHOOKS = "set up webhooks"
    MANAGE_MEMBERS = "invite, change and remove members"
    MANAGE_APPLICATION = "change the application"
    EXPORT_GRANTS = "take connections out with their refresh tokens"
    DELETE_APPLICATION = "archive or delete the application"


_ADMIN = frozenset(Permission) - {Permission.DELETE_APPLICATION, Permission.EXPORT_GRANTS}
PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.OWNER: frozenset(Permission),
    Role.ADMIN: _ADMIN,
    Role.SUPPORT: frozenset({Permission.VIEW, Permission.OPERATE_GRANTS}),
    Role.AUDITOR: frozenset({Permission.VIEW, Permission.VIEW_AUDIT}),
}


def is_allowed(application: Application, permission: Permission) -> bool:
    """Tell whether the role that the application was looked up with allows something."""
    return permission in PERMISSIONS[Role(application.role)]


def application_for(
    request: PortalRequest, slug: str, permission: Permission = Permission.VIEW
) -> Application:
    """Return the application if the signed-in member's role allows `permission` in it.

    Raises Http404 for a stranger, the same as for an application that isn't there, and PermissionDenied for a
    member whose role is too small. The menu and `can` in templates read the application that was found.
    """
    # One statement for it and for the switcher, which every page has; and word by the way on whose database this is.
    mine = Application.objects.visible_to(request.user).led_by(slug).annotate(is_foreign=instance.foreign())
    found = list(mine[: 1 + SWITCHER_LENGTH])
    if not found or found[0].slug != slug:
        raise Http404("No such application.")
    application, *others = found
    instance.remember(is_foreign=application.is_foreign)  # type: ignore[attr-defined]
    if not is_allowed(application, permission):
        raise PermissionDenied(
            f"Your role in {application.name} ({Role(application.role).label}) does not let you {permission}."
        )
    request.application = application
    request.other_applications = others
    return application
