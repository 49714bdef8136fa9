"""A grant: what an end user gave."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse

from portal.encryption import SealedField
from portal.models import Application
from providers.models import ProviderConfig

if TYPE_CHECKING:
    import datetime as dt


class GrantStatus(models.TextChoices):
    """The life of a grant. What is due or claimed is told by its times, not by its status."""

    PENDING = "pending", "Waiting for confirmation"
    ACTIVE = "active", "Active"
    NEEDS_RECONNECT = "needs_reconnect", "Needs reconnect"
    REVOKED = "revoked", "Revoked"


class GrantQuerySet(models.QuerySet["Grant"]):
    """Many grants."""

    def visible_to(self, application: Application) -> Self:
        """Keep those of one application."""
        return self.filter(application=application)

    def alive(self) -> Self:
        """Keep those that are not revoked."""
        return self.exclude(status=GrantStatus.REVOKED)


class Grant(models.Model):
    """What an end user gave: an account, its sites, scopes, and tokens. People call it a connection."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Both keys stand first in an index below. One with nothing else in it would be written anew at each refresh.
    application = models.ForeignKey(
        Application, on_delete=models.CASCADE, related_name="grants", db_index=False
    )
    provider_config = models.ForeignKey(
        ProviderConfig, on_delete=models.CASCADE, related_name="grants", db_index=False
    )
    end_user = models.CharField(max_length=200, help_text="The application's own id for the person.")
    label = models.CharField(max_length=200, blank=True)
    metadata = models.JSONField(
        default=dict, db_default={}, blank=True, help_text="The application's own notes: names and texts."
    )
    status = models.CharField(max_length=16, choices=GrantStatus.choices, default=GrantStatus.PENDING)

    account_id = models.CharField(max_length=200)
    account_name = models.CharField(max_length=200, blank=True)
    account_email = models.CharField(max_length=254, blank=True)
    # Lower-case end user, label, account and site names: what the search field looks in.
    search_text = models.TextField(blank=True, editable=False)

    requested_scopes = ArrayField(models.CharField(max_length=200), default=list)
    granted_scopes = ArrayField(models.CharField(max_length=200), default=list)

    # The count of accepted rotations: grows by exactly one for each accepted answer (I2).
    gen = models.PositiveIntegerField(default=0)
    access_expires_at = models.DateTimeField(null=True, blank=True)
    refreshed_at = models.DateTimeField(null=True, blank=True)
    # When the engine takes it next, on the database's clock; null: never.
    refresh_due_at = models.DateTimeField(null=True, blank=True)
    # Before this nobody tries, also not a reader: the pause after a failure.
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    claim_owner = models.UUIDField(null=True, blank=True, editable=False)
    claim_epoch = models.PositiveIntegerField(default=0, editable=False)
    claim_until = models.DateTimeField(null=True, blank=True)
    # A call with this generation's refresh token may be under way, or its answer was lost.
    inflight_gen = models.PositiveIntegerField(null=True, blank=True, editable=False)
    inflight_since = models.DateTimeField(null=True, blank=True)
    # When it came to need reconnecting.
    ended_at = models.DateTimeField(null=True, blank=True)
    fail_count = models.PositiveIntegerField(default=0)
    fail_outcome = models.CharField(max_length=16, blank=True)
    cause = models.CharField(
        max_length=200, blank=True, help_text="Why it needs reconnecting, or last failed."
    )

    connected_at = models.DateTimeField(db_default=Now(), editable=False)
    consented_at = models.DateTimeField(null=True, blank=True, help_text="The last consent at the provider.")
    confirmed_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(null=True, blank=True, help_text="When a token was last handed out.")
    idle_deadline = models.DateTimeField(null=True, blank=True)
    absolute_deadline = models.DateTimeField(null=True, blank=True)
    # Imported, and nobody has looked yet whose it is and which sites it reaches.
    undiscovered_since = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)
    upstream_revocation = models.CharField(
        max_length=200, blank=True, help_text="What the provider answered."
    )

    objects = GrantQuerySet.as_manager()

    # Reverse one-to-one; absent once the tokens are erased.
    tokens: GrantTokens

    class Meta:
        ordering = ["-connected_at", "-id"]
        verbose_name = "connection"
        # Of staff, in Django admin: nobody edits a grant, and looking at it allows nothing else (G4).
        default_permissions = ("view",)
        permissions = [
            ("refresh_grant", "Can refresh connections now"),
            ("revoke_grant", "Can revoke connections"),
            ("export_grant", "Can export connections"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["provider_config", "end_user", "account_id"],
                condition=~models.Q(status="revoked"),
                name="one_live_grant_an_account",
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=GrantStatus.values), name="grant_status_known"
            ),
            models.CheckConstraint(
                condition=models.Q(claim_owner=None, claim_until=None)
                | models.Q(claim_owner__isnull=False, claim_until__isnull=False),
                name="claim_whole_or_none",
            ),
            models.CheckConstraint(
                condition=models.Q(inflight_gen=None) | models.Q(inflight_gen=models.F("gen")),
                name="inflight_is_this_gen",
            ),
        ]
        indexes = [
            # What the claim reads: per configuration, due order.
            models.Index(
                fields=["provider_config", "refresh_due_at"],
                condition=models.Q(status="active", refresh_due_at__isnull=False),
                name="grant_due",
            ),
            # What it reads first: those whose last answer was lost.
            models.Index(
                fields=["provider_config", "refresh_due_at"],
                condition=models.Q(status="active", fail_outcome="ambiguous"),
                name="grant_lost_answer",
            ),
            # What the guard against many endings at once counts.
            models.Index(
                fields=["ended_at"], condition=models.Q(status="needs_reconnect"), name="grant_lately_ended"
            ),
            # The few whose last refresh failed, for Health.
            models.Index(
                fields=["application", "provider_config"],
                condition=models.Q(status="active") & ~models.Q(fail_outcome=""),
                name="grant_failing",
            ),
            # What housekeeping looks for.
            models.Index(
                fields=["revoked_at"], condition=models.Q(status="revoked"), name="grant_lately_revoked"
            ),
            models.Index(
                fields=["consented_at"], condition=models.Q(status="pending"), name="grant_unconfirmed"
            ),
            models.Index(fields=["application", "-connected_at", "-id"], name="grant_list"),
            models.Index(
                fields=["application", "status", "-connected_at", "-id"], name="grant_list_by_status"
            ),
            models.Index(fields=["provider_config", "account_id"], name="grant_by_account"),
            models.Index(
                fields=["undiscovered_since"],
                condition=models.Q(undiscovered_since__isnull=False),
                name="grant_undiscovered",
            ),
            models.Index(fields=["application", "end_user"], name="grant_by_end_user"),
        ]

    def __str__(self) -> str:
        return f"{self.end_user} ({self.account_name or self.account_id})"

    def get_absolute_url(self) -> str:
        """Return the address of its page."""
        return reverse("grant-detail", args=[self.application.slug, self.pk])

    def webhook_data(self, detail: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the application is told of it; nothing of one that was never active: it isn't theirs yet (A5)."""
        if self.confirmed_at is None:
            return None
        return {
            "grant_id": str(self.pk),
            "end_user": self.end_user,
            "provider": self.provider_config.provider_id,
            "label": self.label,
            "status": self.status,
            "cause": self.cause,
        }

    @property
    def missing_scopes(self) -> list[str]:
        """Return what was asked for and not granted."""
        return [scope for scope in self.requested_scopes if scope not in self.granted_scopes]

    def is_fresh(self, now: dt.datetime) -> bool:
        """Tell whether its access token is good at `now` (the database's clock)."""
        return (
            self.status == GrantStatus.ACTIVE
            and self.access_expires_at is not None
            and self.access_expires_at > now
        )


class GrantTokens(models.Model):
    """The sealed tokens of a grant, apart from it so that lists never carry them and erasing is one delete."""

    grant = models.OneToOneField(Grant, primary_key=True, on_delete=models.CASCADE, related_name="tokens")
    access_token = SealedField()
    refresh_token = SealedField()

    class Meta:
        verbose_name_plural = "grant tokens"
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.grant_id)

    def tenant_id(self) -> uuid.UUID:
        """Return what the sealed columns are bound to: the application."""
        return self.grant.application_id


class Site(models.Model):
    """An Atlassian cloud instance, or its like, that a grant reaches."""

    grant = models.ForeignKey(Grant, on_delete=models.CASCADE, related_name="sites")
    cloud_id = models.CharField("cloud id", max_length=128)
    name = models.CharField(max_length=200)
    url = models.URLField(max_length=500, blank=True)
    products = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    scopes = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    # The end user decides which sites the connection is for.
    is_chosen = models.BooleanField("chosen", default=True)

    class Meta:
        ordering = ["name", "cloud_id"]
        default_permissions = ("view",)
        constraints = [models.UniqueConstraint(fields=["grant", "cloud_id"], name="one_row_a_site")]
        # Which grants reach a site, by whatever it is called.
        indexes = [
            models.Index(fields=["cloud_id"], name="site_by_cloud_id"),
            models.Index(fields=["name"], name="site_by_name"),
            models.Index(fields=["url"], name="site_by_url"),
        ]

    def __str__(self) -> str:
        return self.name
