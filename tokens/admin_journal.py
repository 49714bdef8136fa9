"""Django admin of how grants came to be and are kept fresh. All of it is history (G3)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.urls import path

from portal.admin_base import HistoryAdmin, ReadOnlyInline, link_to
from tokens.admin_health import staff_health
from tokens.models import AuthorizationRequest, ConnectSession, RefreshAttempt, RefreshCount


class AuthorizationRequestInline(ReadOnlyInline):
    """The trips to the provider that were made in a session. State and verifier are not shown."""

    model = AuthorizationRequest
    fields = ("created_at", "expires_at", "spent_at", "client_id", "redirect_uri", "user")
    readonly_fields = fields


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
        "return_url",
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
    readonly_fields = ("provider", "grant_link", "reconnect_link", "created_at")

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

    list_display = ("created_at", "session", "redirect_uri", "expires_at", "spent_at")
    list_select_related = ("session",)
    search_fields = ("=session__id", "session__end_user")
    date_hierarchy = "created_at"
    fields = (
        "session",
        "user",
        "client_id",
        "redirect_uri",
        "token_url",
        "issuer",
        "scopes",
        "created_at",
        "expires_at",
        "spent_at",
    )
    readonly_fields = ("created_at",)


@admin.register(RefreshAttempt)
class RefreshAttemptAdmin(HistoryAdmin):
    """Every attempt to refresh, and what came of it."""

    list_display = (
        "claimed_at",
        "grant_link",
        "application",
        "outcome",
        "cause",
        "http_status",
        "trigger",
        "took",
        "gen",
    )
    list_filter = ("outcome", "trigger")
    list_select_related = ("grant__application",)
    search_fields = ("grant__search_text", "error_code", "=worker")
    date_hierarchy = "claimed_at"
    fields = (
        "grant_link",
        "gen",
        "epoch",
        "trigger",
        "worker",
        "claimed_at",
        "sent_at",
        "answered_at",
        "committed_at",
        "outcome",
        "http_status",
        "error_code",
        "cause",
    )
    readonly_fields = ("grant_link", "claimed_at")

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

    list_display = ("starts_at", "application", "provider_config", "outcome", "count")
    list_filter = ("outcome",)
    list_select_related = ("application", "provider_config__application")
    search_fields = ("application__name",)
    date_hierarchy = "starts_at"
    fields = ("starts_at", "application", "provider_config", "outcome", "count")

    def get_urls(self) -> list[Any]:
        """Add Health of all applications."""
        page = self.admin_site.admin_view(lambda request: staff_health(request, self.admin_site))
        return [path("health/", page, name="tokens_health"), *super().get_urls()]
