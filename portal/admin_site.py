"""Django admin under our name."""

from django.contrib.admin import AdminSite


class PortalAdminSite(AdminSite):
    """The staff's site."""

    site_header = "Developer portal: staff"
    site_title = "Developer portal"
    index_title = "Who has access to what"
    # The lists need the room.
    enable_nav_sidebar = False
