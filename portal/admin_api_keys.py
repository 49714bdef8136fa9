"""Django admin of API keys: to look at. They are made and revoked in the portal."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin

from portal.admin_base import HistoryAdmin
from portal.admin_filters import whether_filter
from portal.models import ApiKey


@admin.register(ApiKey)
class ApiKeyAdmin(HistoryAdmin):
    """Which program may do what. The digest is not shown (G1)."""

    list_display = (
        "name",
        "application",
        "shown_id",
        "may_do",
        "last_used_at",
        "expires_at",
        "revoked_at",
    )
    list_filter = ("expires_at", ("revoked_at", whether_filter("revoked")))
    list_select_related: ClassVar = ["application"]
    search_fields = ("name", "public_id", "application__name", "application__slug")
    date_hierarchy = "created_at"
    fields = (
        "name",
        "application",
        "shown_id",
        "may_do",
        "providers",
        "networks",
        "created_at",
        "created_by",
        "expires_at",
        "revoked_at",
        "replaced_by",
        "last_used_at",
        "last_used_ip",
    )

    @admin.display(description="may")
    def may_do(self, key: ApiKey) -> str:
        """Say what it may do, in words."""
        return "; ".join(key.permission_labels)

    @admin.display(description="providers")
    def providers(self, key: ApiKey) -> str:
        """Name the providers that it is good for."""
        return ", ".join(key.provider_ids) or "all"

    @admin.display(description="key begins with")
    def shown_id(self, key: ApiKey) -> str:
        """Show the part that is no secret."""
        return key.shown_id
