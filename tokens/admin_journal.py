"""Django admin of how grants came to be and are kept fresh. All of it is history (G3)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.urls import path

from portal.admin_base import HistoryAdmin, ReadOnlyInline, link_to, worded
from portal.admin_filters import worded_filter
from providers.admin import providers_in_use
from providers.spec import Outcome
from tokens import failures
from tokens.admin_health import staff_health
from tokens.health import FAILURES
from tokens.models import AuthorizationRequest, ConnectSession, RefreshAttempt, RefreshCount
from tokens.models.journal import Trigger
from tokens.results import FENCED

# What an attempt came to, as the Health page says it.
OUTCOMES = {
    Outcome.OK: "Refreshed",
    **{code: words for code, (words, _) in FAILURES.items()},
    FENCED: "Late answer set aside",
}
CAME_TO = {"": "Under way", **OUTCOMES}
# A word or two for each way that connecting can fail; its page has the sentence.
WHY_FAILED = {
    **{code: code.replace("_", " ").capitalize() for code in failures.FAILURES},
    "redirect_uri_not_registered": "Redirect URI not registered",
    "scope_not_enabled": "Scope not switched on",
    "config_changed": "Set-up changed meanwhile",
    "code_refused": "Answer too old or used already",
    "state_expired": "Came back too late",
    "unknown_state": "Answer that was not asked for",
    "wrong_issuer": "Answer from somewhere else",
    "bad_callback": "Incomplete answer",
    "already_chosen": "Sites chosen already",
    "abandoned": "Sites not chosen in time",
    "no_site": "No site to connect",
    "other_login": "Another member signed in",
    "not_this_browser": "Looked at in another browser",
    "other_browser": "Finished in another browser",
}


class AuthorizationRequestInline(ReadOnlyInline):
    """The trips to the provider that were made in a session. State and verifier are not shown."""

    model = AuthorizationRequest
    fields = ("created_at", "expires_at", "came_back", "shown_client_id", "shown_redirect_uri", "user")
    readonly_fields = fields
    came_back = worded("spent_at", "came back at")
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
        "why_failed",
        "created_by",
        "created_at",
        "grant_link",
    )
    list_filter = (
        "status",
        ("failure", worded_filter("failure", WHY_FAILED)),
        "confirmation",
        ("provider_config__provider_id", worded_filter("provider", providers_in_use)),
    )
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
        "failure_sentence",
        "created_by",
        "created_at",
        "expires_at",
        "tokens_came",
        "finished_at",
        "grant_link",
        "reconnect_link",
    )
    readonly_fields = (
        "provider",
        "shown_return_url",
        "failure_sentence",
        "tokens_came",
        "grant_link",
        "reconnect_link",
        "created_at",
    )
    why_failed = worded("failure", "failure", WHY_FAILED)
    failure_sentence = worded(
        "failure", "failure", {code: words.admin for code, words in failures.FAILURES.items()}
    )
    tokens_came = worded("exchanged_at", "tokens received at")
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

    list_display = ("created_at", "session", "shown_redirect_uri", "expires_at", "came_back")
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
        "came_back",
    )
    came_back = worded("spent_at", "came back at")
    readonly_fields = ("came_back", "shown_client_id", "shown_redirect_uri", "shown_token_url", "created_at")
    shown_client_id = worded("client_id", "client ID")
    shown_redirect_uri = worded("redirect_uri", "redirect URI")
    shown_token_url = worded("token_url", "token URL")


@admin.register(RefreshAttempt)
class RefreshAttemptAdmin(HistoryAdmin):
    """Every attempt to refresh, and what came of it."""

    list_display = (
        "began",
        "grant_link",
        "application",
        "came_to",
        "cause",
        "status",
        "why",
        "took",
        "generation",
    )
    list_filter = (
        ("outcome", worded_filter("outcome", CAME_TO)),
        ("trigger", worded_filter("why", dict(Trigger.choices))),
    )
    list_select_related = ("grant__application",)
    search_fields = ("grant__search_text", "error_code", "=worker")
    date_hierarchy = "claimed_at"
    fields = (
        "grant_link",
        "generation",
        "claims",
        "why",
        "worker",
        "began",
        "sent_at",
        "answered_at",
        "stored",
        "came_to",
        "status",
        "error",
        "cause",
    )
    readonly_fields = (
        "grant_link",
        "error",
        "generation",
        "claims",
        "came_to",
        "status",
        "began",
        "stored",
        "why",
    )
    came_to = worded("outcome", "outcome", CAME_TO)
    began = worded("claimed_at", "began at")
    stored = worded("committed_at", "stored at")
    error = worded("error_code", "error, as the provider calls it")
    why = worded("trigger", "why", dict(Trigger.choices))
    status = worded("http_status", "HTTP status")
    generation = worded("gen", "generation")
    claims = worded("epoch", "number of the attempt")

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
    list_filter = (("outcome", worded_filter("outcome", OUTCOMES)),)
    list_select_related = ("application", "provider_config__application")
    search_fields = ("application__name",)
    date_hierarchy = "starts_at"
    fields = ("starts_at", "application", "provider", "came_to", "count")
    readonly_fields = ("provider", "came_to")
    came_to = worded("outcome", "outcome", OUTCOMES)
    provider = worded("provider_config", "provider")

    def get_urls(self) -> list[Any]:
        """Add Health of all applications."""
        page = self.admin_site.admin_view(lambda request: staff_health(request, self.admin_site))
        return [path("health/", page, name="tokens_health"), *super().get_urls()]
