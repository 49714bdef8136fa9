"""Django admin of how grants came to be and are kept fresh. All of it is history (G3)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.urls import path

from portal.admin_base import HistoryAdmin, ReadOnlyInline, link_to, worded
from providers.spec import Outcome
from tokens.admin_health import staff_health
from tokens.health import FAILURES
from tokens.models import AuthorizationRequest, ConnectSession, RefreshAttempt, RefreshCount


@admin.display(description="outcome", ordering="outcome")
def came_to(_: Any, attempt: RefreshAttempt | RefreshCount) -> str:
    """Say what an attempt came to, as the Health page does."""
    if attempt.outcome in FAILURES:
        return FAILURES[attempt.outcome][0]
    return {"": "under way", Outcome.OK: "refreshed"}.get(attempt.outcome, attempt.outcome)


class AuthorizationRequestInline(ReadOnlyInline):
    """The trips to the provider that were made in a session. State and verifier are not shown."""

    model = AuthorizationRequest
    fields = ("created_at", "expires_at", "spent_at", "shown_client_id", "shown_redirect_uri", "user")
    readonly_fields = fields
    shown_client_id = worded("client_id", "client ID")
    shown_redirect_uri = worded("redirect_uri", "redirect URI")


@admin.register(ConnectSession)
class ConnectSessionAdmin(HistoryAdmin):
    """Connect links and what became of them. Nothing in it is a credential, and digests are not shown either."""

    list_display = (
        "end_user",
        "application",
        "provider",
        "confirmation",
        "status",
        "failure",
        "created_by",
        "created_at",
        "grant_link",
    )
    list_filter = ("status", "failure", "confirmation", "provider_config__provider_id")
    list_select_related = ("application", "provider_config", "created_by", "grant")
    search_fields = ("end_user", "label", "application__name", "created_by__email")
    date_hierarchy = "created_at"
    inlines = (AuthorizationRequestInline,)
    fields = (
        "application",
        "provider",
        "confirmation",
        "end_user",
        "label",
        "scopes",
        "shown_return_url",
        "status",
        "failure",
        "created_by",
        "created_at",
        "expires_at",
        "exchanged_at",
        "finished_at",
        "grant_link",
        "reconnect_link",
    )
    readonly_fields = ("provider", "shown_return_url", "grant_link", "reconnect_link", "created_at")
    shown_return_url = worded("return_url", "return URL")

    @admin.display(description="provider")
    def provider(self, session: ConnectSession) -> str:
        """Name the provider."""
        return session.provider_config.provider_name

    @admin.display(description="connection")
    def grant_link(self, session: ConnectSession) -> str:
        """Lead to what it brought."""
        return link_to(session.grant)

    @admin.display(description="to reconnect")
    def reconnect_link(self, session: ConnectSession) -> str:
        """Lead to what it was meant to repair."""
        return link_to(session.reconnect_grant)


@admin.register(AuthorizationRequest)
class AuthorizationRequestAdmin(HistoryAdmin):
    """Trips to the provider. State and verifier are not shown."""

    list_display = ("created_at", "session", "shown_redirect_uri", "expires_at", "spent_at")
    list_select_related = ("session",)
    search_fields = ("=session__id", "session__end_user")
    # Which has an index, and is the order of their making.
    ordering = ("-expires_at",)
    date_hierarchy = "created_at"
    fields = (
        "session",
        "user",
        "shown_client_id",
        "shown_redirect_uri",
        "shown_token_url",
        "issuer",
        "scopes",
        "created_at",
        "expires_at",
        "spent_at",
    )
    readonly_fields = ("shown_client_id", "shown_redirect_uri", "shown_token_url", "created_at")
    shown_client_id = worded("client_id", "client ID")
    shown_redirect_uri = worded("redirect_uri", "redirect URI")
    shown_token_url = worded("token_url", "token URL")


@admin.register(RefreshAttempt)
class RefreshAttemptAdmin(HistoryAdmin):
    """Every attempt to refresh, and what came of it."""

    list_display = (
        "claimed_at",
        "grant_link",
        "application",
        "came_to",
        "cause",
        "status",
        "trigger",
        "took",
        "generation",
    )
    list_filter = ("outcome", "trigger")
    list_select_related = ("grant__application",)
    search_fields = ("grant__search_text", "error_code", "=worker")
    date_hierarchy = "claimed_at"
    fields = (
        "grant_link",
        "generation",
        "claims",
        "trigger",
        "worker",
        "claimed_at",
        "sent_at",
        "answered_at",
        "committed_at",
        "came_to",
        "status",
        "error_code",
        "cause",
    )
    readonly_fields = ("grant_link", "generation", "claims", "came_to", "status", "claimed_at")
    came_to = came_to
    status = worded("http_status", "HTTP status")
    generation = worded("gen", "generation")
    claims = worded("epoch", "number of the claim")

    @admin.display(description="connection")
    def grant_link(self, attempt: RefreshAttempt) -> str:
        """Lead to the grant."""
        return link_to(attempt.grant)

    @admin.display(description="application")
    def application(self, attempt: RefreshAttempt) -> str:
        """Name the application."""
        return str(attempt.grant.application)

    @admin.display(description="took")
    def took(self, attempt: RefreshAttempt) -> str:
        """Say how long the provider took to answer."""
        if not (attempt.sent_at and attempt.answered_at):
            return ""
        return f"{round((attempt.answered_at - attempt.sent_at).total_seconds() * 1000):,} ms"


@admin.register(RefreshCount)
class RefreshCountAdmin(HistoryAdmin):
    """Attempts by half hour and outcome, without the last two hours: what the charts read."""

    list_display = ("starts_at", "application", "provider", "came_to", "count")
    list_filter = ("outcome",)
    list_select_related = ("application", "provider_config__application")
    search_fields = ("application__name",)
    date_hierarchy = "starts_at"
    fields = ("starts_at", "application", "provider", "came_to", "count")
    readonly_fields = ("provider", "came_to")
    came_to = came_to
    provider = worded("provider_config", "provider")

    def get_urls(self) -> list[Any]:
        """Add Health of all applications."""
        page = self.admin_site.admin_view(lambda request: staff_health(request, self.admin_site))
        return [path("health/", page, name="tokens_health"), *super().get_urls()]
