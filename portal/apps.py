"""App configurations of the portal and of Django admin."""

from django.apps import AppConfig, apps
from django.contrib.admin.apps import AdminConfig

# What others' apps are called in Django admin, where staff read it.
NAMES = {
    "admin": "Changes made here",
    "auth": "Groups of staff",
    "mfa": "Second factors",
    "socialaccount": "Sign-in elsewhere",
    "usersessions": "Where people are signed in",
}


class PortalConfig(AppConfig):
    """The lowest app."""

    name = "portal"
    verbose_name = "Portal"

    def ready(self) -> None:
        """Register the system checks, and name others' apps."""
        from portal import checks  # noqa: F401

        for label, name in NAMES.items():
            apps.get_app_config(label).verbose_name = name


class PortalAdminConfig(AdminConfig):
    """Django admin, with our site in place of the default one."""

    default_site = "portal.admin_site.PortalAdminSite"
