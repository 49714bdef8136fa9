"""Django admin of provider configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin

from portal.admin_base import PortalAdmin, link_to, link_to_list, worded
from portal.admin_filters import worded_filter
from portal.audit import record, staff_of
from portal.models import Event
from providers.catalog_loader import catalog
from providers.models import ProviderConfig

if TYPE_CHECKING:
    from django.http import HttpRequest


# PROBLEMS has the sentences that say what to do.
PROBLEM_WORDS = {
    "client_refused": "Client ID or secret refused",
    "secret_unreadable": "Stored secret unreadable",
    "unreachable": "Does not answer",
    "many_refused": "Many connections refused at once",
    "profile_refused": "Does not say who connected",
}


def providers_in_use() -> dict[str, str]:
    """Return the names of the providers that applications have set up, by id."""
    found = ProviderConfig.objects.order_by("provider_id").values_list("provider_id", flat=True).distinct()
    return {one: catalog()[one].name if one in catalog() else one for one in found}


@admin.register(ProviderConfig)
class ProviderConfigAdmin(PortalAdmin):
    """Who registered what with a provider. Staff can switch one off; of the secret nothing is shown."""

    list_display = (
        "provider_name",
        "application",
        "client_id",
        "is_enabled",
        "problem",
        "secret_set",
        "connections",
    )
    list_filter = (
        ("provider_id", worded_filter("provider", providers_in_use)),
        "is_enabled",
        ("problem_code", worded_filter("problem", PROBLEM_WORDS)),
    )
    list_select_related = ("application", "secret_set_by", "created_by")
    search_fields = ("application__name", "application__slug", "provider_id", "client_id")
    date_hierarchy = "created_at"
    fields = (
        "application_link",
        "provider_name",
        "is_enabled",
        "client_id",
        "secret_set",
        "scopes",
        "redirect_uri",
        "problem",
        "problem_message",
        "problem_since",
        "created_at",
        "created_by",
        "connections",
        "sessions",
    )
    # A change of credentials belongs into the portal, where it is checked.
    readonly_fields = tuple(name for name in fields if name != "is_enabled")

    problem = worded("problem_code", "problem", PROBLEM_WORDS)

    @admin.display(description="application")
    def application_link(self, config: ProviderConfig) -> str:
        """Lead to the application."""
        return link_to(config.application)

    @admin.display(description="provider", ordering="provider_id")
    def provider_name(self, config: ProviderConfig) -> str:
        """Name the provider, also when its catalog file is gone."""
        return config.provider_name

    @admin.display(description="client secret")
    def secret_set(self, config: ProviderConfig) -> str:
        """Tell when the secret was set and by whom: all that anybody can see of it."""
        if config.client_secret is None:
            return "not set"
        when = f"{config.secret_set_at:%-d %B %Y}" if config.secret_set_at else "an unknown day"
        return f"set on {when} by {config.secret_set_by or 'somebody who is gone'}"

    @admin.display(description="redirect URI")
    def redirect_uri(self, config: ProviderConfig) -> str:
        """Show what must be registered in the provider's console."""
        return config.redirect_uri

    @admin.display(description="connections")
    def connections(self, config: ProviderConfig) -> str:
        """Lead to its connections."""
        return link_to_list("tokens_grant", "connections", provider_config__id__exact=config.pk)

    @admin.display(description="connect sessions")
    def sessions(self, config: ProviderConfig) -> str:
        """Lead to the attempts to connect."""
        return link_to_list("tokens_connectsession", "connect sessions", provider_config__id__exact=config.pk)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: a provider is added in the portal, by the application's people."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: it takes connections with it, and the portal says how many."""
        return False

    def save_model(self, request: HttpRequest, obj: ProviderConfig, form: Any, change: bool) -> None:  # noqa: FBT001
        """Switch on or off, and write down who did it."""
        if "is_enabled" not in form.changed_data:
            return
        obj.save(update_fields=["is_enabled"])
        event = Event.PROVIDER_ENABLED if obj.is_enabled else Event.PROVIDER_DISABLED
        record(
            event, actor=staff_of(request), application=obj.application, subject=obj, provider=obj.provider_id
        )
