"""`manage.py apikey create|list|revoke`: API keys from a shell, for automation."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from portal import api_keys
from portal.audit import SYSTEM
from portal.models import ApiKey, Application
from portal.models.api_keys import KeyPermission

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Make, list and revoke keys."""

    help = "Make, list and revoke the API keys of an application."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take what to do."""
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="make a key and print it, and nothing else, on stdout")
        create.add_argument("application", help="the application's short name, such as acme-tasks")
        create.add_argument("name", help="where the key will be used")
        create.add_argument(
            "--permission",
            dest="permissions",
            action="append",
            required=True,
            choices=KeyPermission.values,
            help="may be given several times",
        )
        create.add_argument(
            "--provider",
            dest="provider_ids",
            action="append",
            default=[],
            help="only for this provider; may be given several times",
        )
        create.add_argument(
            "--days", type=int, default=api_keys.LIFETIME.days, help="how long it is good for"
        )
        shown = actions.add_parser("list", help="print id, expiry and name of the keys that work")
        shown.add_argument("application")
        revoked = actions.add_parser("revoke", help="let nobody in with a key any more")
        revoked.add_argument(
            "key", help="what the key begins with, as in dpk_0123456789ab, as `list` prints it"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        {"create": self._create, "list": self._list, "revoke": self._revoke}[options["action"]](options)

    def _create(self, options: dict[str, Any]) -> None:
        if not 1 <= options["days"] <= 3650:
            raise CommandError("--days must be between 1 and 3650.")
        application = _application(options["application"])
        known = set(application.provider_configs.values_list("provider_id", flat=True))
        if unknown := set(options["provider_ids"]) - known:
            raise CommandError(f"Not configured for {application}: {', '.join(sorted(unknown))}.")
        _, text = api_keys.create(
            application,
            name=options["name"][:80],
            permissions=set(options["permissions"]),
            provider_ids=set(options["provider_ids"]),
            lifetime=timedelta(days=options["days"]),
            actor=SYSTEM,
        )
        self.stderr.write("This is the only time that the key is shown.")
        self.stdout.write(text)

    def _list(self, options: dict[str, Any]) -> None:
        for key in ApiKey.objects.visible_to(_application(options["application"])).working():
            self.stdout.write(f"{key.shown_id}  until {key.expires_at:%Y-%m-%d}  {key.name}")

    def _revoke(self, options: dict[str, Any]) -> None:
        # The whole key may be what somebody has at hand after a leak.
        public_id = options["key"].removeprefix("dpk_").partition("_")[0]
        key = ApiKey.objects.select_related("application").filter(public_id=public_id).first()
        if key is None:
            raise CommandError("There is no such key. `manage.py apikey list` prints those that work.")
        is_new = api_keys.revoke(key, actor=SYSTEM)
        self.stdout.write(f"{key.shown_id} is revoked." if is_new else f"{key.shown_id} was revoked before.")


def _application(slug: str) -> Application:
    application = Application.objects.filter(slug=slug).first()
    if application is None:
        raise CommandError(f"There is no application '{slug}'.")
    return application
