"""How a provider stands for all its configurations together."""

from __future__ import annotations

from django.db import models


class ProviderHealth(models.Model):
    """What several configurations have seen of one provider: the breaker above their own ones."""

    provider_id = models.SlugField("provider", max_length=50, primary_key=True)
    # Refreshes that got no usable answer since the last one, of any configuration, that did.
    misses_in_a_row = models.PositiveIntegerField(default=0, editable=False)
    # Since when it answers nobody; null while it works.
    opened_at = models.DateTimeField(null=True, blank=True, editable=False)
    probed_at = models.DateTimeField(null=True, blank=True, editable=False)
    # It refuses the grants of many configurations at once: since then none is ended.
    endings_held_since = models.DateTimeField(null=True, blank=True, editable=False)

    # By how many seconds its clock was ahead of the database's when they last differed much.
    clock_ahead_s = models.FloatField(null=True, blank=True, editable=False)
    clock_seen_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        verbose_name_plural = "provider health"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.provider_id
