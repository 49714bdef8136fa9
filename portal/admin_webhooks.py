"""Django admin of webhooks: to look at. They are set up in the portal; of secrets and addresses' ends nothing is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.contrib import admin

from portal.admin_base import HistoryAdmin, ReadOnlyInline, link_to, link_to_list, worded
from portal.admin_filters import whether_filter, worded_filter
from portal.models import WebhookAttempt, WebhookEndpoint, WebhookMessage
from portal.models.webhooks import TEST_TYPE, DisabledReason, WebhookType
from portal.webhook_words import OUTCOMES

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest


TOLD = {**dict(WebhookType.choices), TEST_TYPE: "A test"}
CAME_TO = {"": "Under way", **{code: words for code, (_, words) in OUTCOMES.items()}}


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(HistoryAdmin):
    """Where applications are told of what happens."""

    list_display = (
        "name",
        "application",
        "shown_url",
        "disabled_at",
        "disabled_reason",
        "misses_in_a_row",
        "failing_since",
        "sent",
    )
    list_filter = (
        ("disabled_reason", worded_filter("why nothing is sent", dict(DisabledReason.choices))),
        ("failing_since", whether_filter("failing")),
    )
    list_select_related: ClassVar = ["application"]
    search_fields = ("name", "application__name", "application__slug")
    date_hierarchy = "created_at"
    fields = (
        "name",
        "application_link",
        "shown_url",
        "told",
        "secret_set_at",
        "earlier_secret_until",
        "created_at",
        "created_by",
        "disabled_at",
        "disabled_reason",
        "mailed_at",
        "misses_in_a_row",
        "failing_since",
        "paused_until",
        "sent",
    )

    @admin.display(description="URL")
    def shown_url(self, endpoint: WebhookEndpoint) -> str:
        """Show the host; what stands after it may be a secret."""
        return endpoint.shown_url

    @admin.display(description="application")
    def application_link(self, endpoint: WebhookEndpoint) -> str:
        """Lead to the application."""
        return link_to(endpoint.application)

    @admin.display(description="is told when")
    def told(self, endpoint: WebhookEndpoint) -> str:
        """Say of what it wants to be told."""
        return "; ".join(TOLD.get(one, one) for one in endpoint.types)

    @admin.display(description="messages")
    def sent(self, endpoint: WebhookEndpoint) -> str:
        """Lead to its messages."""
        return link_to_list("portal_webhookmessage", "messages", endpoint__id__exact=endpoint.pk)


class WebhookAttemptInline(ReadOnlyInline):
    """The tries of a message."""

    model = WebhookAttempt
    fields = ("number", "started_at", "answered_at", "status", "came_to")
    readonly_fields = fields
    came_to = worded("outcome", "outcome", CAME_TO)
    status = worded("http_status", "HTTP status")


@admin.register(WebhookMessage)
class WebhookMessageAdmin(HistoryAdmin):
    """What endpoints are told, and whether they took it."""

    list_display = ("told", "application", "endpoint", "created_at", "status", "tries", "next_attempt_at")
    list_filter = ("status", ("type", worded_filter("what it tells", TOLD)))
    list_select_related: ClassVar = ["endpoint__application"]
    search_fields = ("=uid", "=subject_id", "endpoint__name", "endpoint__application__name")
    search_help_text = "The exact id of a message or a connection, or an endpoint or application by name."
    date_hierarchy = "created_at"
    inlines = (WebhookAttemptInline,)
    fields = (
        "told",
        "type",
        "public_id",
        "application",
        "endpoint_link",
        "body",
        "created_at",
        "status",
        "sent_by_hand",
        "tries",
        "failures",
        "next_attempt_at",
        "claimed_until",
        "finished_at",
    )
    told = worded("type", "what it tells", TOLD)
    sent_by_hand = worded("is_by_hand", "sent by hand")
    claimed_until = worded("claim_until", "under way until")

    @admin.display(description="webhook-id")
    def public_id(self, message: WebhookMessage) -> str:
        """Show the id as the receiver knows it."""
        return message.public_id

    @admin.display(description="application")
    def application(self, message: WebhookMessage) -> str:
        """Name the application."""
        return str(message.endpoint.application)

    @admin.display(description="endpoint")
    def endpoint_link(self, message: WebhookMessage) -> str:
        """Lead to the endpoint."""
        return link_to(message.endpoint)


@admin.register(WebhookAttempt)
class WebhookAttemptAdmin(HistoryAdmin):
    """Every try to deliver a message, and what was answered."""

    list_display = ("started_at", "told", "application", "came_to", "status", "number")
    list_filter = (("outcome", worded_filter("outcome", CAME_TO)),)
    list_select_related: ClassVar = ["message__endpoint__application"]
    search_fields = ("=message__uid", "message__endpoint__name")
    date_hierarchy = "started_at"
    fields = (
        "message_link",
        "number",
        "shown_url",
        "started_at",
        "answered_at",
        "came_to",
        "status",
        "answer",
    )
    came_to = worded("outcome", "outcome", CAME_TO)
    status = worded("http_status", "HTTP status")
    answer = worded("excerpt", "answer begins with")

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookAttempt]:
        """Bring the message along."""
        return super().get_queryset(request).select_related("message__endpoint__application")

    @admin.display(description="what it tells")
    def told(self, attempt: WebhookAttempt) -> str:
        """Say what the message tells."""
        return TOLD.get(attempt.message.type, attempt.message.type)

    @admin.display(description="URL")
    def shown_url(self, attempt: WebhookAttempt) -> str:
        """Show the host; what stands after it may be a secret."""
        return attempt.shown_url

    @admin.display(description="message")
    def message_link(self, attempt: WebhookAttempt) -> str:
        """Lead to the message."""
        return link_to(attempt.message)

    @admin.display(description="application")
    def application(self, attempt: WebhookAttempt) -> str:
        """Name the application."""
        return str(attempt.message.endpoint.application)
