"""The journal of refresh attempts. No secrets."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from providers.models import ProviderConfig
from tokens.models.grants import Grant


class Trigger(models.TextChoices):
    """What proposed a refresh."""

    BEAT = "beat", "schedule"
    READER = "reader", "a token was asked for"
    MEMBER = "member", "a member"
    STAFF = "staff", "staff"
    API = "api", "the application"


class RefreshAttempt(models.Model):
    """One attempt to refresh: written when the grant is claimed, before any call, and completed afterwards."""

    # Rows are written by claims alone, which hold the grant's row locked meanwhile: PostgreSQL need not look once more
    # for each whether it is there. The unique index of grant and epoch is this key's index.
    grant = models.ForeignKey(
        Grant, on_delete=models.CASCADE, related_name="attempts", db_index=False, db_constraint=False
    )
    provider_config = models.ForeignKey(
        ProviderConfig, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    gen = models.PositiveIntegerField()
    epoch = models.PositiveIntegerField()
    trigger = models.CharField(max_length=10, choices=Trigger.choices)
    worker = models.CharField(max_length=100, blank=True)
    claimed_at = models.DateTimeField(db_default=Now(), editable=False)
    sent_at = models.DateTimeField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    committed_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=16, blank=True)
    http_status = models.PositiveSmallIntegerField(null=True, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    cause = models.CharField(max_length=200, blank=True)

    class Meta:
        verbose_name = "refresh attempt"
        default_permissions = ("view",)
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["grant", "epoch"], name="one_attempt_a_claim")]
        indexes = [
            models.Index(fields=["claimed_at"], name="attempt_by_time"),
            # The calls of a configuration that are under way, which its limits count.
            models.Index(
                fields=["provider_config", "claimed_at"],
                condition=models.Q(outcome=""),
                name="attempt_under_way",
            ),
        ]

    def __str__(self) -> str:
        return f"at {self.claimed_at:%Y-%m-%d %H:%M:%S}"
