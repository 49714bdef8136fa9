"""App configurations of the portal and of Django admin."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class PortalConfig(AppConfig):
    """The lowest app."""

    name = "portal"
    verbose_name = "Portal"

    def ready(self) -> None:
        """Register the system checks."""
        from portal import checks  # noqa: F401


class PortalAdminConfig(AdminConfig):
    """Django admin, with our site in place of the default one."""

    default_site = "portal.admin_site.PortalAdminSite"
