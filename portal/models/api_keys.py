"""API keys: how an application's back end shows who it is."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from portal.models.applications import Application
from portal.networks import MAX_LENGTH

if TYPE_CHECKING:
    import datetime as dt

# How long before its end the portal begins to say so.
ENDS_SOON = timedelta(days=30)


class KeyPermission(models.TextChoices):
    """One thing that a key may do."""

    TOKENS_READ = "tokens:read", "Read access tokens"
    PROXY = "proxy", "Call providers through the portal"
    CONNECT = "connect", "Make connect links and confirm connections"
    GRANTS_READ = "grants:read", "Look at connections"
    GRANTS_WRITE = "grants:write", "Change, refresh, import and revoke connections"
    AUDIT_READ = "audit:read", "Read the audit log"
    GRANTS_EXPORT = "grants:export", "Export connections with their refresh tokens"


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    """Many keys."""

    def visible_to(self, application: Application) -> Self:
        """Keep those of one application."""
        return self.filter(application=application)

    def working(self) -> Self:
        """Keep those that are let in just now, by the database's clock (D3)."""
        return self.filter(revoked_at=None, expires_at__gt=Now())

    def with_clock(self) -> Self:
        """Bring the database's time of the statement, as `now`."""
        return self.annotate(now=models.ExpressionWrapper(Now(), output_field=models.DateTimeField()))


class ApiKey(models.Model):
    """A key of an application's back end. Its secret is not stored, only its digest (C9; see portal/api_keys.py)."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    # What a key is looked up by; no secret.
    public_id = models.CharField(max_length=16, unique=True, editable=False)
    secret_digest = models.CharField(max_length=64, editable=False)
    permissions = ArrayField(models.CharField(max_length=20, choices=KeyPermission.choices))
    provider_ids = ArrayField(
        models.CharField(max_length=50),
        default=list,
        blank=True,
        help_text="The providers that it may be used for; none means all.",
    )
    networks = ArrayField(
        models.CharField(max_length=MAX_LENGTH),
        verbose_name="IP ranges",
        default=list,
        db_default=[],
        blank=True,
        help_text="Where it may be used from; none means everywhere.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    created_by = models.ForeignKey(
        "portal.User", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    # Set when it was rotated: the key that takes over. Until `expires_at` both are let in.
    replaced_by = models.OneToOneField(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="replaces"
    )
    # To the minute: noting every call would cost every call a write.
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_used_ip = models.GenericIPAddressField("last used from", null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    # Set by ApiKeyQuerySet.with_clock.
    now: dt.datetime

    class Meta:
        verbose_name = "API key"
        ordering = ["-created_at"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=models.Q(permissions__contained_by=KeyPermission.values, permissions__len__gt=0),
                name="api_key_permissions_known",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def shown_id(self) -> str:
        """Return the part of the key that may be shown, and that the key itself begins with."""
        return f"dpk_{self.public_id}"

    @property
    def permission_labels(self) -> list[str]:
        """Return what it may do, for people."""
        return [str(permission.label) for permission in KeyPermission if permission in self.permissions]

    @property
    def is_expired(self) -> bool:
        """Tell whether its time is over; needs `with_clock`."""
        return self.expires_at <= self.now

    @property
    def may_export(self) -> bool:
        """Tell whether it takes refresh tokens out; such a key ends within a day and is not rotated."""
        return KeyPermission.GRANTS_EXPORT in self.permissions

    @property
    def ends_soon(self) -> bool:
        """Tell whether somebody should see to a new one, and nobody has; needs `with_clock`."""
        is_near = self.now < self.expires_at <= self.now + ENDS_SOON
        return is_near and self.revoked_at is None and self.replaced_by_id is None and not self.may_export
