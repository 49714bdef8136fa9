"""The audit log: what was done, by whom, from where. Rows are added, never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from django.db import models
from django.db.models.functions import Now

if TYPE_CHECKING:
    import uuid


class Event(models.TextChoices):
    """Every kind of audit event, as ``subject:verb``."""

    APPLICATION_CREATED = "application:created", "Application created"
    APPLICATION_CHANGED = "application:changed", "Application changed"
    APPLICATION_ARCHIVED = "application:archived", "Application archived"
    APPLICATION_RESTORED = "application:restored", "Application restored"
    APPLICATION_DELETED = "application:deleted", "Application deleted"
    MEMBER_INVITED = "member:invited", "Member invited"
    MEMBER_INVITATION_WITHDRAWN = "member:invitation_withdrawn", "Invitation withdrawn"
    MEMBER_JOINED = "member:joined", "Member joined"
    MEMBER_ROLE_CHANGED = "member:role_changed", "Member's role changed"
    MEMBER_REMOVED = "member:removed", "Member removed"
    API_KEY_CREATED = "api_key:created", "API key created"
    API_KEY_CHANGED = "api_key:changed", "API key's name or IP ranges changed"
    API_KEY_ROTATED = "api_key:rotated", "API key rotated"
    API_KEY_REVOKED = "api_key:revoked", "API key revoked"
    WEBHOOK_CREATED = "webhook:created", "Webhook endpoint created"
    WEBHOOK_CHANGED = "webhook:changed", "Webhook endpoint changed"
    WEBHOOK_SECRET_ROTATED = "webhook:secret_rotated", "Webhook secret rotated"
    WEBHOOK_DISABLED = "webhook:disabled", "Webhook endpoint disabled"
    WEBHOOK_ENABLED = "webhook:enabled", "Webhook endpoint enabled"
    WEBHOOK_TESTED = "webhook:tested", "Webhook test event sent"
    WEBHOOK_REDELIVERED = "webhook:redelivered", "Webhook message sent again"
    WEBHOOK_DELETED = "webhook:deleted", "Webhook endpoint deleted"
    PROVIDER_ADDED = "provider:added", "Provider added"
    PROVIDER_CHANGED = "provider:changed", "Provider changed"
    PROVIDER_SECRET_REPLACED = "provider:secret_replaced", "Client secret replaced"
    PROVIDER_DISABLED = "provider:disabled", "Provider disabled"
    PROVIDER_ENABLED = "provider:enabled", "Provider enabled"
    PROVIDER_DELETED = "provider:deleted", "Provider deleted"
    PROVIDER_FAILING = "provider:failing", "Provider failing"
    PROVIDER_RECOVERED = "provider:recovered", "Provider recovered"
    PROVIDER_ENDINGS_ALLOWED = "provider:endings_allowed", "Refused connections let end"
    CONNECT_LINK_CREATED = "connect:link_created", "Connect link created"
    MANAGE_LINK_CREATED = "connect:manage_link_created", "Link to an end user's page created"
    MANAGE_LINK_OPENED = "connect:manage_link_opened", "An end user's page opened"
    CONNECT_STARTED = "connect:started", "Connecting started"
    CONNECT_FAILED = "connect:failed", "Connecting failed"
    GRANT_CONNECTED = "grant:connected", "Connected"
    GRANT_CONFIRMED = "grant:confirmed", "Connection confirmed"
    GRANT_REJECTED = "grant:rejected", "Connection rejected"
    GRANT_RECONNECTED = "grant:reconnected", "Reconnected"
    GRANT_CHANGED = "grant:changed", "Label or metadata changed"
    GRANT_IMPORTED = "grant:imported", "Imported"
    GRANT_EXPORTED = "grant:exported", "Exported with its refresh token"
    GRANT_SITES_CHANGED = "grant:sites_changed", "Sites changed"
    GRANT_REFRESH_REQUESTED = "grant:refresh_requested", "Refresh requested"
    GRANT_NEEDS_RECONNECT = "grant:needs_reconnect", "Needs reconnect"
    GRANT_RECOVERED = "grant:recovered", "Recovered"
    GRANT_REVOKED = "grant:revoked", "Revoked"
    TOKEN_HANDED_OUT = "token:handed_out", "Token handed out"
    PROXY_CALLED = "proxy:called", "Called through the proxy"
    EXPORTED = "audit:exported", "Exported"


class ActorKind(models.TextChoices):
    """Who acted."""

    MEMBER = "member", "Member"
    STAFF = "staff", "Staff"
    END_USER = "end_user", "End user"
    API_KEY = "api_key", "API key"
    LINK = "link", "Reconnect link"
    SYSTEM = "system", "The portal itself"


class AuditEventQuerySet(models.QuerySet["AuditEvent"]):
    """Many audit events."""

    def about_grant(self, grant_id: uuid.UUID) -> Self:
        """Keep those that tell of one grant."""
        return self.filter(subject_kind="grant", subject_id=str(grant_id))


class AuditEvent(models.Model):
    """One thing that was done.

    There are no foreign keys: the log outlives what it tells of. The database refuses to change or delete a row
    (a trigger of the second migration), for superusers too, and seals show it if one is (portal/audit_seals.py; G3).
    """

    at = models.DateTimeField(db_default=Now(), editable=False)
    application_id = models.UUIDField(null=True, blank=True)
    application_name = models.CharField(max_length=80, blank=True)
    event = models.CharField(max_length=40, choices=Event.choices)
    actor_kind = models.CharField(max_length=10, choices=ActorKind.choices)
    actor_id = models.CharField(max_length=200, blank=True)
    actor_name = models.CharField("who", max_length=254, blank=True)
    ip_address = models.GenericIPAddressField("from where", null=True, blank=True)
    subject_kind = models.CharField(max_length=20, blank=True)
    subject_id = models.CharField(max_length=64, blank=True)
    subject_name = models.CharField("what", max_length=254, blank=True)
    detail = models.JSONField(default=dict, blank=True)
    request_id = models.CharField(max_length=64, blank=True)

    objects = AuditEventQuerySet.as_manager()

    class Meta:
        verbose_name = "audit event"
        default_permissions = ("view",)
        permissions = [("export_auditevent", "Can export audit events")]
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["application_id", "-at", "-id"], name="audit_by_application_time"),
            # For the filter by event. Hand-outs outnumber everything else, are found by the index above (where they don't, a
            # window of the newest rows at a time), and stay out of this one, so that it costs the hot path nothing.
            models.Index(
                fields=["application_id", "event", "-at", "-id"],
                condition=~models.Q(event="token:handed_out"),
                name="audit_by_event",
            ),
            models.Index(fields=["subject_kind", "subject_id", "-id"], name="audit_by_subject"),
            models.Index(fields=["at"], name="audit_by_time"),
        ]

    def __str__(self) -> str:
        return (
            f"{self.get_event_display()}: {self.subject_name}"
            if self.subject_name
            else self.get_event_display()
        )
