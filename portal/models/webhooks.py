"""Webhooks: where an application wants to be told of something, what is to be told, and each try to tell it.

A message is written in the transaction of the change that it tells of (portal/outbox.py) and sent later
(tokens/webhooks/). Its id and its body never change; its `id` in the database is the order of things.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse

from portal.encryption import SealedField
from portal.models.applications import Application

if TYPE_CHECKING:
    import datetime as dt


class WebhookType(models.TextChoices):
    """What an application can be told of."""

    GRANT_CONNECTED = "grant.connected", "Somebody connected, and the connection is active"
    GRANT_RECONNECTED = "grant.reconnected", "A connection was repaired by a new consent"
    GRANT_NEEDS_RECONNECT = "grant.needs_reconnect", "A connection needs its person to connect again"
    GRANT_RECOVERED = "grant.recovered", "A connection works again without a new consent"
    GRANT_REVOKED = "grant.revoked", "A connection was taken back"
    PROVIDER_FAILING = "provider.failing", "A provider stopped working for all connections"
    PROVIDER_RECOVERED = "provider.recovered", "A provider works again"


# Sent by hand from an endpoint's page, to that endpoint alone.
TEST_TYPE = "webhook.test"
# After so many failures in a row an endpoint is asked with one message at a time, now and then, until it takes one.
FAILING_AFTER = 5


class DisabledReason(models.TextChoices):
    """Why nothing is sent to an endpoint."""

    MEMBER = "member", "A member disabled it"
    GONE = "gone", "It answered 410 Gone"
    FAILING = "failing", "It did not take a single message for days"


class WebhookEndpointQuerySet(models.QuerySet["WebhookEndpoint"]):
    """Many endpoints."""

    def visible_to(self, application: Application) -> Self:
        """Keep those of one application."""
        return self.filter(application=application)

    def ailing(self) -> Self:
        """Keep those that somebody should look at: we have disabled them, or they take nothing."""
        return self.filter(
            models.Q(disabled_reason__in=[DisabledReason.GONE, DisabledReason.FAILING])
            | models.Q(disabled_at=None, misses_in_a_row__gte=FAILING_AFTER)
        )


class WebhookEndpoint(models.Model):
    """An address of an application's back end, with the secret that its messages are signed with."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="webhook_endpoints")
    name = models.CharField(max_length=80)
    url = models.CharField("URL", max_length=2000)
    types = ArrayField(models.CharField(max_length=40, choices=WebhookType.choices))
    secret = SealedField()
    # Signs beside the new one until then, so that the receiver can change over in its own time (F3).
    earlier_secret = SealedField()
    earlier_secret_until = models.DateTimeField(null=True, blank=True)
    secret_set_at = models.DateTimeField(db_default=Now(), editable=False)
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.CharField(max_length=10, choices=DisabledReason.choices, blank=True)
    # When the owners were told that we disabled it.
    mailed_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Since the last message that was taken: how many tries failed, and when the first of them did.
    misses_in_a_row = models.PositiveIntegerField(default=0)
    failing_since = models.DateTimeField(null=True, blank=True)
    # Nothing is sent before: it asked us to wait (Retry-After), or keeps failing. Of a disabled one: until then somebody is
    # mailing about it.
    paused_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    created_by = models.ForeignKey(
        "portal.User", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    objects = WebhookEndpointQuerySet.as_manager()

    class Meta:
        verbose_name = "webhook endpoint"
        ordering = ["created_at", "id"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=models.Q(types__contained_by=WebhookType.values, types__len__gt=0),
                name="webhook_types_known",
            ),
            models.CheckConstraint(
                condition=models.Q(disabled_at=None, disabled_reason="")
                | models.Q(disabled_at__isnull=False, disabled_reason__in=DisabledReason.values),
                name="webhook_disabled_with_a_reason",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Return the address of its page."""
        return reverse("webhook-detail", args=[self.application.slug, self.pk])

    def tenant_id(self) -> uuid.UUID:
        """Return what its sealed columns are bound to."""
        return self.application_id

    @property
    def shown_url(self) -> str:
        """Return its address as everybody may see it: what stands after the host may be somebody's secret."""
        return hide_path(self.url)

    @property
    def is_disabled(self) -> bool:
        """Tell whether nothing is sent to it."""
        return self.disabled_at is not None


class MessageStatus(models.TextChoices):
    """Where a message stands."""

    PENDING = "pending", "Waiting"
    DELIVERED = "delivered", "Delivered"
    FAILED = "failed", "Failed"


class WebhookMessage(models.Model):
    """One thing that one endpoint is told of. Thin: it names what happened, and holds no token or secret (F4)."""

    id = models.BigAutoField(primary_key=True)
    # What the receiver knows it by: the same at every try (F2).
    uid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    # Every index below begins with it.
    endpoint = models.ForeignKey(
        WebhookEndpoint, on_delete=models.CASCADE, related_name="messages", db_index=False
    )
    type = models.CharField(max_length=40)
    # The grant or provider configuration: what is told of one of them is told in order. It may be gone by now.
    subject_id = models.UUIDField(null=True, blank=True)
    # Byte for byte what is signed and sent.
    body = models.TextField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    status = models.CharField(
        max_length=10, choices=MessageStatus.choices, default=MessageStatus.PENDING, db_default="pending"
    )
    # A test, or sent again by a member: tried once, and not again by itself.
    is_by_hand = models.BooleanField("by hand", default=False, db_default=False)
    tries = models.PositiveIntegerField(default=0, db_default=0)
    # Failed tries that count for how long to wait and when to give up.
    failures = models.PositiveIntegerField(default=0, db_default=0)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    # A worker is sending it; after that time it is anybody's again.
    claim_until = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "webhook message"
        ordering = ["-id"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=models.Q(status__in=MessageStatus.values), name="webhook_message_status_known"
            ),
            models.CheckConstraint(
                condition=models.Q(status="pending", next_attempt_at__isnull=False, finished_at=None)
                | (
                    ~models.Q(status="pending")
                    & models.Q(next_attempt_at=None, claim_until=None, finished_at__isnull=False)
                ),
                name="webhook_message_waits_or_is_finished",
            ),
        ]
        indexes = [
            # What the claim reads: per endpoint, due order. Finished messages are in none of these two.
            models.Index(
                fields=["endpoint", "next_attempt_at"],
                condition=models.Q(status="pending"),
                name="webhook_due",
            ),
            # Whether something earlier of the same grant still waits.
            models.Index(
                fields=["endpoint", "subject_id", "id"],
                condition=models.Q(status="pending"),
                name="webhook_order",
            ),
            models.Index(fields=["endpoint", "-id"], name="webhook_log"),
            models.Index(fields=["endpoint", "status", "-id"], name="webhook_log_by_status"),
            models.Index(fields=["created_at"], name="webhook_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.public_id}"

    @property
    def public_id(self) -> str:
        """Return the webhook-id header: the same at every try (F2)."""
        return f"msg_{self.uid.hex}"

    @property
    def about(self) -> str:
        """Return whom or what it tells of, for people."""
        data = json.loads(self.body).get("data", {})
        return str(data.get("end_user") or data.get("provider") or "")


class WebhookAttempt(models.Model):
    """One try to deliver a message: written when it is claimed, before any call, and completed afterwards."""

    message = models.ForeignKey(
        WebhookMessage, on_delete=models.CASCADE, related_name="attempts", db_index=False
    )
    number = models.PositiveIntegerField()
    # When it was claimed; its second is what webhook-timestamp says.
    started_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True, blank=True)
    url = models.CharField("URL", max_length=2000)
    http_status = models.PositiveSmallIntegerField(null=True, blank=True)
    # "" while it is under way; "taken", or why not, in one of our own words.
    outcome = models.CharField(max_length=40, blank=True, db_default="")
    # The beginning of what it answered, as printable text.
    excerpt = models.TextField(blank=True, db_default="")

    class Meta:
        verbose_name = "webhook attempt"
        ordering = ["-id"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["message", "number"], name="one_webhook_attempt_a_number")
        ]

    def __str__(self) -> str:
        return f"at {self.started_at:%Y-%m-%d %H:%M:%S}"

    @property
    def shown_url(self) -> str:
        """Return where it was sent, as everybody may see it."""
        return hide_path(self.url)

    @property
    def took(self) -> dt.timedelta | None:
        """Return how long the answer took; None while there is none."""
        return self.answered_at - self.started_at if self.answered_at else None


def hide_path(url: str) -> str:
    """Return an address without what stands after the host: at some services that is the secret."""
    parts = urlsplit(url)
    is_more = parts.path not in ("", "/") or parts.query
    return f"{parts.scheme}://{parts.netloc}{'/…' if is_more else '/'}"
