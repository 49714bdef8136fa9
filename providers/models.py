"""One application's credentials and scopes for a provider."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse

from portal.audit import SYSTEM, record
from portal.encryption import SealedField, UnreadableError, seal, unseal
from portal.models import Application, Event, User
from providers.catalog_loader import catalog
from providers.oauth import Credentials
from providers.provider_alert import ProviderAlert
from providers.provider_health import ProviderHealth

__all__ = [
    "PROBLEMS",
    "STOPPING_PROBLEMS",
    "Freshness",
    "ProviderAlert",
    "ProviderConfig",
    "ProviderHealth",
    "redirect_uri_for",
]

if TYPE_CHECKING:
    import datetime as dt

    from providers.spec import ProviderSpec


# What an admin must mend, as the provider page and Overview say it.
PROBLEMS = {
    "client_refused": "{name} refuses the client ID or secret. Copy both again from its console and replace the secret on the provider’s page.",
    "secret_unreadable": "The stored client secret cannot be decrypted. Replace it on the provider’s page.",
    "unreachable": "{name} does not answer. Nothing is lost: it is tried with one connection at a time until it does.",
    "many_refused": (
        "{name} refused many connections at once, so none of them is ended: they are tried again until it accepts one. "
        "Check in its console that the app is still there. If they really are over, let them end."
    ),
    "profile_refused": "{name} does not show us who connected. Switch the profile scope on in its console.",
}
# While one of these lasts, refreshing is tried with one grant at a time.
STOPPING_PROBLEMS = ("client_refused", "secret_unreadable", "unreachable")


class Freshness(models.TextChoices):
    """Which connections are refreshed before anybody asks for their token."""

    ALWAYS = "always", "Always fresh"
    USED = "used", "Fresh if used lately"
    ON_DEMAND = "on_demand", "On demand"


class ProviderConfigQuerySet(models.QuerySet["ProviderConfig"]):
    """Many provider configurations."""

    def visible_to(self, application: Application) -> Self:
        """Keep those of one application."""
        return self.filter(application=application)

    def with_connections(self) -> Self:
        """Count the connections of each, as `connections`. Grants are known only by their reverse relation here."""
        return self.annotate(connections=models.Count("grants", filter=~models.Q(grants__status="revoked")))


class ProviderConfig(models.Model):
    """One application's client ID, client secret and scopes for a provider."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="provider_configs")
    provider_id = models.SlugField("provider", max_length=50)
    client_id = models.CharField("client ID", max_length=512)
    client_secret = SealedField()
    secret_set_at = models.DateTimeField(null=True, editable=False)
    secret_set_by = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    scopes = ArrayField(models.CharField(max_length=200), default=list)
    is_enabled = models.BooleanField("enabled", default=True)
    freshness = models.CharField(
        max_length=10, choices=Freshness.choices, default=Freshness.ALWAYS, db_default=Freshness.ALWAYS
    )
    # With "fresh if used lately": used within so many days.
    fresh_days = models.PositiveSmallIntegerField(default=7, db_default=7)
    # Why this configuration does not work just now, as the provider told us; "" while it works.
    problem_code = models.CharField(max_length=64, blank=True)
    problem_message = models.CharField(max_length=300, blank=True)
    problem_since = models.DateTimeField(null=True, blank=True)
    # Refreshes that got no usable answer since the last one that did.
    misses_in_a_row = models.PositiveIntegerField(default=0, editable=False)
    # The same for refreshes that were refused for good.
    refused_in_a_row = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    # The provider asked us to wait (Retry-After).
    paused_until = models.DateTimeField(null=True, blank=True, editable=False)
    # How many calls to the token endpoint may be under way, and begin in a second; null: what the catalog says.
    max_parallel = models.PositiveIntegerField(null=True, blank=True)
    max_per_second = models.PositiveIntegerField(null=True, blank=True)
    # Until when the calls that were begun have used up `max_per_second`.
    paced_until = models.DateTimeField(null=True, blank=True, editable=False)
    # While it does not work: when one grant was last tried.
    probed_at = models.DateTimeField(null=True, blank=True, editable=False)
    # Too many grants were refused at once: since then none is ended. Until then somebody let them end all the same.
    endings_held_since = models.DateTimeField(null=True, blank=True, editable=False)
    endings_allowed_until = models.DateTimeField(null=True, blank=True, editable=False)
    # Its grants' due times must be set anew, which the next tick does (tokens/replan.py).
    replan_since = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    created_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")

    objects = ProviderConfigQuerySet.as_manager()

    # What `credentials` opened, with what it opened it from.
    _credentials: tuple[tuple[str, Any], Credentials] | None = None

    class Meta:
        verbose_name = "provider configuration"
        ordering = ["provider_id"]
        constraints = [
            models.UniqueConstraint(fields=["application", "provider_id"], name="one_config_a_provider"),
            # Grants point at both columns, so that a grant can't belong to another application than its configuration.
            models.UniqueConstraint(fields=["id", "application"], name="config_and_application"),
            models.CheckConstraint(
                condition=models.Q(freshness__in=Freshness.values), name="config_freshness_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider_name} for {self.application}"

    def get_absolute_url(self) -> str:
        """Return the address of its page."""
        return reverse("provider-detail", args=[self.application.slug, self.provider_id])

    def tenant_id(self) -> uuid.UUID:
        """Return what its sealed columns are bound to."""
        return self.application_id

    @property
    def spec(self) -> ProviderSpec:
        """Return the catalog entry. Raises UnknownProviderError if its file is gone."""
        return catalog()[self.provider_id]

    @property
    def provider_name(self) -> str:
        """Return the provider's name for people, also when its catalog file is gone."""
        return catalog()[self.provider_id].name if self.provider_id in catalog() else self.provider_id

    @property
    def redirect_uri(self) -> str:
        """Return where the provider sends people back to."""
        return redirect_uri_for(self.application, self.provider_id)

    @property
    def can_be_told_to_end(self) -> bool:
        """Tell whether the provider has a way for us to end a token (RFC 7009), and we have what it takes."""
        if self.provider_id not in catalog() or self.spec.revoke is None:
            return False
        try:
            self.credentials()
        except UnreadableError:
            return False
        return True

    def live_grants(self) -> models.QuerySet[Any]:
        """Return its connections that are not revoked."""
        return self.grants.exclude(status="revoked")

    def grants_with_fewer_scopes(self) -> models.QuerySet[Any]:
        """Return its connections that were granted less than is asked for now."""
        # A scope that the console does not list, such as offline_access, is not always named in answers.
        known = self.spec.scopes if self.provider_id in catalog() else {}
        listed = [name for name in self.scopes if name not in known or known[name].needs_console]
        return self.live_grants().exclude(granted_scopes__contains=listed)

    def keeps_fresh(self, last_used: dt.datetime | None, now: dt.datetime) -> bool:
        """Tell whether a connection that was last used then is refreshed before anybody asks for its token."""
        if self.freshness == Freshness.USED:
            return last_used is not None and last_used > now - timedelta(days=self.fresh_days)
        return self.freshness == Freshness.ALWAYS

    def set_client_secret(self, value: str) -> None:
        """Seal a new client secret; saving is the caller's."""
        seal(self, "client_secret", value)

    def credentials(self) -> Credentials:
        """Return client ID and secret for requests. Raises UnreadableError.

        They are kept with this instance: a worker asks for each of thousands of grants.
        """
        key = (self.client_id, self.client_secret)
        if self._credentials is None or self._credentials[0] != key:
            secret = unseal(self, "client_secret") or ""
            self._credentials = (key, Credentials(client_id=self.client_id, client_secret=secret))
        return self._credentials[1]

    def note_problem(self, code: str) -> None:
        """Record that the provider does not work for us, once: the first note stays until it recovers.

        What stops refreshing takes the place of what does not. Credentials are not blamed for what an answer says of
        those that they have replaced.
        """
        lesser = models.Q(problem_code="")
        if code in STOPPING_PROBLEMS:
            lesser |= ~models.Q(problem_code__in=STOPPING_PROBLEMS)
        configs = ProviderConfig.objects.filter(lesser, pk=self.pk)
        if code in ("client_refused", "secret_unreadable"):
            configs = configs.filter(client_id=self.client_id, client_secret=self.client_secret)
        noted = configs.update(
            problem_code=code,
            problem_message=PROBLEMS[code].format(name=self.provider_name),
            problem_since=Now(),
        )
        if noted:
            record(
                Event.PROVIDER_FAILING, actor=SYSTEM, application=self.application, subject=self, problem=code
            )

    def note_recovery(self, *codes: str) -> None:
        """Record that the provider works again, once: that these problems are over, or what stopped refreshing."""
        noted = ProviderConfig.objects.filter(pk=self.pk, problem_code__in=codes or STOPPING_PROBLEMS).update(
            problem_code="", problem_message="", problem_since=None
        )
        if noted:
            record(Event.PROVIDER_RECOVERED, actor=SYSTEM, application=self.application, subject=self)

    def webhook_data(self, detail: dict[str, Any]) -> dict[str, Any]:
        """Return what the application is told of it."""
        told = {"provider": self.provider_id}
        return {**told, "problem": detail["problem"]} if detail.get("problem") else told

    @property
    def is_working(self) -> bool:
        """Tell whether it may connect, refresh and hand out."""
        return self.is_enabled and not self.application.is_archived


def redirect_uri_for(application: Application, provider_id: str) -> str:
    """Return the redirect URI of a provider in an application, known before anything is saved.

    It is distinct for each configuration (A7) and comes from PUBLIC_URL, never from the Host header (A11).
    """
    return str(settings.PUBLIC_URL) + f"/oauth/callback/{application.slug}/{provider_id}"
