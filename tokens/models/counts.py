"""Counts of refresh attempts: what charts and metrics read. No row of a grant is needed for them."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from portal.models import Application
from providers.models import ProviderConfig


class Counted(models.Model):
    """How many attempts of one configuration came to one outcome, and how long the provider took to answer them."""

    provider_config = models.ForeignKey(ProviderConfig, on_delete=models.CASCADE, related_name="+")
    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="+")
    outcome = models.CharField(max_length=16)
    # The answers by how long they took, one number for each of tokens.latency.BOUNDS and one for longer ones.
    latencies = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    # Of all of them together.
    waited_ms = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        abstract = True


class RefreshMinute(Counted):
    """The attempts of one minute; after two hours they move to the half hours and the totals (tokens/counts.py)."""

    starts_at = models.DateTimeField()
    count = models.PositiveIntegerField(default=0)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["provider_config", "starts_at", "outcome"], name="one_count_a_minute"
            )
        ]
        indexes = [models.Index(fields=["starts_at"], name="minutes_by_time")]

    def __str__(self) -> str:
        return f"{self.count} {self.outcome}"


class RefreshCount(Counted):
    """The attempts of one half hour, without the last two hours."""

    provider_config = models.ForeignKey(
        ProviderConfig, on_delete=models.CASCADE, related_name="refresh_counts"
    )
    starts_at = models.DateTimeField()
    count = models.PositiveIntegerField(default=0)

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["provider_config", "starts_at", "outcome"], name="one_count_a_bucket"
            ),
        ]
        indexes = [
            models.Index(fields=["application", "starts_at"], name="refresh_count_by_application"),
            models.Index(fields=["starts_at"], name="refresh_count_by_time"),
        ]

    def __str__(self) -> str:
        return f"{self.count} {self.outcome}"


class RefreshTotal(Counted):
    """All attempts ever, without the last two hours: with those added it never falls, as a counter must not."""

    count = models.BigIntegerField(default=0)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["provider_config", "outcome"], name="one_total_an_outcome")
        ]

    def __str__(self) -> str:
        return f"{self.count} {self.outcome}"
