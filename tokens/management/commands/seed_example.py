"""Make what examples/jira_issues needs in the demo, and print it as the example is given it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import transaction

from portal import api_keys
from portal.audit import SYSTEM
from portal.models import ApiKey
from portal.models.api_keys import KeyPermission
from portal.origins import OriginError, normalise_origin
from providers.sandbox.demo import ISSUES
from tokens.guide import connect_js
from tokens.management.commands import seed_demo

if TYPE_CHECKING:
    from argparse import ArgumentParser

KEY_NAME = "example"


class Command(seed_demo.Command):
    """Make the example's application, provider, return origin and key. A new key ends the earlier one."""

    help = "Make what the example application needs, and print its settings on stdout. Only where DEMO is on."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the example's origin."""
        parser.add_argument("--origin", required=True, help="where the example runs: http://127.0.0.1:8002")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make what is missing."""
        if not (settings.DEMO and settings.SANDBOX_URL):
            raise CommandError("This needs DEMO and SANDBOX_URL (see `make run`).")
        try:
            origin = normalise_origin(options["origin"])
        except OriginError as error:
            raise CommandError(f"{options['origin']} {error}.") from None
        with transaction.atomic():
            owner = self._owner()
            application = self._application(owner, "Acme Issues", "acme-issues")
            self._provider(owner, application, ISSUES)
            if origin not in application.return_origins:
                application.return_origins.append(origin)
                application.save(update_fields=["return_origins"])
            for key in ApiKey.objects.visible_to(application).working().filter(name=KEY_NAME):
                api_keys.revoke(key, actor=SYSTEM)
            _, text = api_keys.create(
                application,
                name=KEY_NAME,
                permissions=[KeyPermission.CONNECT, KeyPermission.TOKENS_READ],
                actor=SYSTEM,
            )
        edition = connect_js()
        self.stdout.write(f"PORTAL_KEY={text}")
        self.stdout.write(f"CONNECT_JS={edition.name}")
        self.stdout.write(f"CONNECT_JS_INTEGRITY={edition.integrity}")
