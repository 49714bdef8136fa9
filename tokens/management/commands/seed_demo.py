"""Make the demo that `make run` shows. Doing it again changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.db.models.functions import Now

from portal.audit import SYSTEM, record
from portal.models import Application, Event, Membership, Role, User
from providers.models import ProviderConfig
from providers.sandbox.demo import WIKI

if TYPE_CHECKING:
    from providers.sandbox.demo import DemoApp

DEMO_SCOPES = [
    "read:me",
    "offline_access",
    "read:jira-work",
    "write:jira-work",
    "read:jira-user",
    "read:confluence-content.all",
]


class Command(BaseCommand):
    """Seed the demo: one owner, an empty application to try things on, and one that is already set up."""

    help = "Make the demo login and two applications. Only where DEMO is on."

    def handle(self, *args: Any, **options: Any) -> None:
        """Make what is missing."""
        if not settings.DEMO:
            raise CommandError(
                "This makes an account with a known password: only where DEMO is on (see `make run`)."
            )
        if not settings.DEMO_PASSWORD:
            raise CommandError("DEMO_PASSWORD is not set.")
        with transaction.atomic():
            owner = self._owner()
            self._application(owner, "Acme Tasks", "acme-tasks")
            wiki = self._application(owner, "Acme Wiki", "acme-wiki")
            if settings.SANDBOX_URL:
                self._provider(owner, wiki, WIKI)

    def _owner(self) -> User:
        owner = User.objects.filter(email=settings.DEMO_EMAIL).first()
        if owner is None:
            owner = User.objects.create_superuser(
                settings.DEMO_EMAIL, settings.DEMO_PASSWORD, name="Demo Admin"
            )
        # Proven, so that the demo's owner may try a passkey.
        EmailAddress.objects.get_or_create(
            user=owner, email=owner.email, defaults={"verified": True, "primary": True}
        )
        return owner

    def _application(self, owner: User, name: str, slug: str) -> Application:
        application, is_new = Application.objects.get_or_create(
            slug=slug, defaults={"name": name, "return_origins": [settings.PUBLIC_URL]}
        )
        if is_new:
            Membership.objects.create(application=application, user=owner, role=Role.OWNER)
            record(Event.APPLICATION_CREATED, actor=SYSTEM, application=application, subject=application)
        return application

    def _provider(self, owner: User, application: Application, app: DemoApp) -> None:
        if application.provider_configs.filter(provider_id="atlassian").exists():
            return
        config = ProviderConfig(
            application=application,
            provider_id="atlassian",
            client_id=app.client_id,
            scopes=DEMO_SCOPES,
            secret_set_at=Now(),
            secret_set_by=owner,
            created_by=owner,
        )
        config.set_client_secret(app.client_secret)
        config.save()
        record(Event.PROVIDER_ADDED, actor=SYSTEM, application=application, subject=config)
