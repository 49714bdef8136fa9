"""Applications and who may do what in them."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower, Now
from django.urls import reverse

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from portal.models.people import User


class Role(models.TextChoices):
    """What a member may do; portal/access.py says it in detail."""

    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    SUPPORT = "support", "Support"
    AUDITOR = "auditor", "Auditor"


class ApplicationQuerySet(models.QuerySet["Application"]):
    """Many applications."""

    def visible_to(self, user: User | AnonymousUser) -> Self:
        """Keep those that the user is a member of, each with the user's role as `role`.

        `has_ailing_webhooks` tells whether Overview has to ask for them: asking each time would be one statement more.
        """
        from portal.models.webhooks import WebhookEndpoint

        if not user.is_authenticated:
            return self.none()
        ailing = WebhookEndpoint.objects.filter(application=models.OuterRef("pk")).ailing()
        return self.filter(memberships__user=user).annotate(
            role=models.F("memberships__role"), has_ailing_webhooks=models.Exists(ailing)
        )

    def working(self) -> Self:
        """Keep those that are not archived."""
        return self.filter(archived_at=None)

    def led_by(self, slug: str) -> Self:
        """Put the one with this slug first, archived or not, and the working ones after it, by name."""
        is_it = models.Q(slug=slug)
        return self.filter(is_it | models.Q(archived_at=None)).order_by(
            models.ExpressionWrapper(is_it, models.BooleanField()).desc(), "name"
        )


class Application(models.Model):
    """A customer's product: it owns provider configurations and grants, and is a hard boundary."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80)
    slug = models.SlugField(
        max_length=50, unique=True, help_text="Part of redirect URIs, so it never changes."
    )
    # The start of the logo's SHA-256, so that its address changes with it; "" without a logo.
    logo_digest = models.CharField(max_length=16, blank=True, editable=False)
    return_origins = ArrayField(
        models.CharField(max_length=255),
        default=list,
        blank=True,
        help_text="Origins that end users may be sent back to, such as https://app.example.com.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    archived_at = models.DateTimeField(null=True, blank=True)

    objects = ApplicationQuerySet.as_manager()

    # Set by ApplicationQuerySet.visible_to.
    role: str
    has_ailing_webhooks: bool

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Return the address of the Overview page."""
        return reverse("application-overview", args=[self.slug])

    @property
    def logo_url(self) -> str:
        """Return the address of the logo as it is now, which may be kept for ever; "" without a logo."""
        if not self.logo_digest:
            return ""
        return f"{reverse('application-logo', args=[self.slug])}?v={self.logo_digest}"

    @property
    def is_archived(self) -> bool:
        """Tell whether refreshing, connecting and handing out have stopped."""
        return self.archived_at is not None


class ApplicationLogo(models.Model):
    """An application's logo, apart from it so that no other query carries it."""

    application = models.OneToOneField(
        Application, primary_key=True, on_delete=models.CASCADE, related_name="logo"
    )
    png = models.BinaryField(editable=False, help_text="PNG, at most 256 × 256, made by us (portal/logo.py).")

    def __str__(self) -> str:
        return f"Logo of {self.application}"


class Membership(models.Model):
    """One person's role in one application."""

    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey("portal.User", on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["application", "user"], name="one_membership_a_person"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.get_role_display()})"


class InvitationQuerySet(models.QuerySet["Invitation"]):
    """Many invitations."""

    def open(self) -> Self:
        """Keep those that nobody has accepted; they may have expired."""
        return self.filter(accepted_at=None)

    def with_expiry(self) -> Self:
        """Tell of each whether its time is over, by the database's clock, as `is_expired`."""
        return self.annotate(is_expired=models.Q(expires_at__lte=Now()))


class Invitation(models.Model):
    """An invitation. The link's token is not stored, only its digest (see portal/invitations.py).

    Without an application it is the one-time link that makes the first owner of an installation.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    application = models.ForeignKey(
        Application, null=True, blank=True, on_delete=models.CASCADE, related_name="invitations"
    )
    email = models.EmailField()
    role = models.CharField(max_length=10, choices=Role.choices)
    token_digest = models.CharField(max_length=64, unique=True, editable=False)
    invited_by = models.ForeignKey(
        "portal.User", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)

    objects = InvitationQuerySet.as_manager()

    # Set by InvitationQuerySet.with_expiry.
    is_expired: bool

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "application",
                Lower("email"),
                condition=models.Q(accepted_at=None),
                name="one_open_invitation_an_address",
            ),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="invitation_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.email} ({self.get_role_display()})"


def digest(secret: str) -> str:
    """Return the SHA-256 of a random secret of at least 128 bits, in hex: what we store in its place."""
    return hashlib.sha256(secret.encode()).hexdigest()
