"""Django admin under our name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.admin import AdminSite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.http import HttpRequest

# What staff look for comes first, in this order; the rest follows by name.
FIRST_APPS = ("tokens", "portal", "providers")
FIRST_MODELS = ("Grant", "Application", "AuditEvent", "User", "Membership", "ApiKey")


class PortalAdminSite(AdminSite):
    """The staff's site."""

    site_header = "Developer portal: staff"
    site_title = "Developer portal"
    index_title = "Who has access to what"
    # The lists need the room.
    enable_nav_sidebar = False

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Return what the index shows, in the order of those who look for something."""
        apps: list[Any] = super().get_app_list(request, app_label)
        for app in apps:
            app["models"].sort(key=lambda model: _place(model["object_name"], FIRST_MODELS))
        return sorted(apps, key=lambda app: _place(app["app_label"], FIRST_APPS))


def _place(name: str, first: Sequence[str]) -> int:
    return first.index(name) if name in first else len(first)
