"""How a grant comes to be: a connect session, and the authorization requests made in it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from portal.encryption import SealedField
from portal.models import Application, User
from providers.models import ProviderConfig
from tokens.models.grants import Grant

if TYPE_CHECKING:
    import datetime as dt


class Confirmation(models.TextChoices):
    """Who vouches that the account belongs to the end user, before the grant is active (A5)."""

    MEMBER = "member", "A member confirms the account"
    CODE = "code", "The application exchanges a one-time code"
    LOGIN = "login", "The member who tests is signed in here"


class SessionStatus(models.TextChoices):
    """Where a connect session stands."""

    OPEN = "open", "Open"
    CHOOSING = "choosing", "Choosing sites"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"


class ConnectSession(models.Model):
    """One connect link: short-lived, good for one connection.

    Nothing in it can be used as a credential: link, cookie and one-time code are stored as digests.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="connect_sessions")
    provider_config = models.ForeignKey(
        ProviderConfig, on_delete=models.CASCADE, related_name="connect_sessions"
    )
    confirmation = models.CharField(max_length=10, choices=Confirmation.choices)
    end_user = models.CharField(max_length=200)
    label = models.CharField(max_length=200, blank=True)
    scopes = ArrayField(models.CharField(max_length=200), default=list)
    return_url = models.URLField(max_length=2000, blank=True)
    reconnect_grant = models.ForeignKey(
        Grant, null=True, blank=True, on_delete=models.SET_NULL, related_name="reconnect_sessions"
    )
    created_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    link_digest = models.CharField(max_length=64, unique=True, editable=False)
    status = models.CharField(max_length=10, choices=SessionStatus.choices, default=SessionStatus.OPEN)
    # The browser that pressed Connect, by the digest of its cookie; the result is shown to no other (A3).
    browser_digest = models.CharField(max_length=64, blank=True, editable=False)
    failure = models.CharField(max_length=40, blank=True, help_text="Why the last attempt failed.")
    # Tokens, account and sites between the exchange and the choice of sites; erased with it.
    exchanged = SealedField()
    exchanged_at = models.DateTimeField(null=True, blank=True)
    grant = models.ForeignKey(
        Grant, null=True, blank=True, on_delete=models.SET_NULL, related_name="connect_sessions"
    )
    return_code_digest = models.CharField(max_length=64, blank=True, editable=False)
    return_code_expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=models.Q(status__in=SessionStatus.values), name="session_status_known"
            ),
            models.UniqueConstraint(
                fields=["return_code_digest"],
                condition=~models.Q(return_code_digest=""),
                name="return_code_once",
            ),
        ]
        indexes = [
            models.Index(fields=["application", "-created_at"], name="session_list"),
            models.Index(fields=["expires_at"], name="session_expiry"),
        ]

    def __str__(self) -> str:
        return f"{self.end_user} at {self.created_at:%Y-%m-%d %H:%M}"

    def tenant_id(self) -> uuid.UUID:
        """Return what its sealed columns are bound to."""
        return self.application_id

    def is_expired(self, now: dt.datetime) -> bool:
        """Tell whether its time is over at `now` (the database's clock)."""
        return self.expires_at <= now


class AuthorizationRequest(models.Model):
    """One trip to the provider: what was asked, so that the answer can be held against it (A6, A8).

    It lives ten minutes and is spent by the first callback that names its state (A2).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    session = models.ForeignKey(
        ConnectSession, on_delete=models.CASCADE, related_name="authorization_requests"
    )
    state_digest = models.CharField(max_length=64, unique=True, editable=False)
    browser_digest = models.CharField(max_length=64, editable=False)
    # The member who must be signed in at the callback, for a member's own test (A4).
    user = models.ForeignKey(User, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    code_verifier = SealedField()
    client_id = models.CharField(max_length=512)
    redirect_uri = models.CharField(max_length=2000)
    token_url = models.CharField(max_length=2000)
    issuer = models.CharField(max_length=500, blank=True)
    scopes = ArrayField(models.CharField(max_length=200), default=list)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    spent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ("view",)
        indexes = [models.Index(fields=["expires_at"], name="authorization_request_expiry")]

    def __str__(self) -> str:
        return str(self.pk)

    def tenant_id(self) -> uuid.UUID:
        """Return what its sealed columns are bound to."""
        return self.session.application_id
