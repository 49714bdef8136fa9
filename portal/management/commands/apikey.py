"""`manage.py apikey create|list|change|rotate|revoke`: API keys from a shell, for automation."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from portal import api_keys
from portal.api_key_forms import LONGEST_OVERLAP, USUAL_OVERLAP
from portal.audit import SYSTEM
from portal.models import ApiKey, Application
from portal.models.api_keys import KeyPermission
from portal.networks import MOST_NETWORKS, NetworkError, normalise_network

if TYPE_CHECKING:
    from argparse import ArgumentParser

A_KEY = "what the key begins with, as in dpk_0123456789ab, as `list` prints it"


class Command(BaseCommand):
    """Make, list, change, rotate and revoke keys."""

    help = "Make, list, change, rotate and revoke the API keys of an application."

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
        shown = actions.add_parser("list", help="print id, expiry, last use and name of the keys that work")
        shown.add_argument("application")
        changed = actions.add_parser("change", help="change a key's name, or from where it may be used")
        changed.add_argument("key", help=A_KEY)
        changed.add_argument("--name", default="", help="where the key is used")
        changed.add_argument(
            "--everywhere", action="store_true", help="from every address, no longer from some ranges"
        )
        for limited in (create, changed):
            limited.add_argument(
                "--network",
                dest="networks",
                action="append",
                default=[],
                help="only from this IP range, such as 203.0.113.0/24; may be given several times",
            )
        rotated = actions.add_parser(
            "rotate",
            help="make a key that takes over from another, and print it, and nothing else, on stdout",
        )
        rotated.add_argument("key", help=A_KEY)
        rotated.add_argument(
            "--overlap-days", type=int, default=USUAL_OVERLAP, help="how long the old key is let in beside it"
        )
        revoked = actions.add_parser("revoke", help="let nobody in with a key any more")
        revoked.add_argument("key", help=A_KEY)
        for made in (create, rotated):
            made.add_argument(
                "--days", type=int, default=api_keys.LIFETIME.days, help="how long the new key is good for"
            )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        actions = {
            "create": self._create,
            "list": self._list,
            "change": self._change,
            "rotate": self._rotate,
            "revoke": self._revoke,
        }
        actions[options["action"]](options)

    def _create(self, options: dict[str, Any]) -> None:
        application = _application(options["application"])
        known = set(application.provider_configs.values_list("provider_id", flat=True))
        if unknown := set(options["provider_ids"]) - known:
            raise CommandError(f"Not configured for {application}: {', '.join(sorted(unknown))}.")
        _, text = api_keys.create(
            application,
            name=options["name"][:80],
            permissions=set(options["permissions"]),
            provider_ids=set(options["provider_ids"]),
            networks=_networks(options),
            lifetime=_days(options),
            actor=SYSTEM,
        )
        self._show(text)

    def _list(self, options: dict[str, Any]) -> None:
        for key in ApiKey.objects.visible_to(_application(options["application"])).working():
            used = f"used {key.last_used_at:%Y-%m-%d}" if key.last_used_at else "never used"
            self.stdout.write(f"{key.shown_id}  until {key.expires_at:%Y-%m-%d}  {used}  {key.name}")

    def _change(self, options: dict[str, Any]) -> None:
        key, networks = _key(options["key"]), _networks(options)
        if networks and options["everywhere"]:
            raise CommandError("--network and --everywhere exclude each other.")
        try:
            is_new = api_keys.change(
                key,
                name=options["name"][:80] or key.name,
                networks=networks or ([] if options["everywhere"] else key.networks),
                actor=SYSTEM,
            )
        except api_keys.NotChangeableError:
            raise CommandError("This key works no more, or is an export key. Make a new one.") from None
        self.stdout.write(f"{key.shown_id} is changed." if is_new else f"{key.shown_id} was so before.")

    def _rotate(self, options: dict[str, Any]) -> None:
        if not 0 <= options["overlap_days"] <= LONGEST_OVERLAP:
            raise CommandError(f"--overlap-days must be between 0 and {LONGEST_OVERLAP}.")
        try:
            _, text = api_keys.rotate(
                _key(options["key"]),
                overlap=timedelta(days=options["overlap_days"]),
                lifetime=_days(options),
                actor=SYSTEM,
            )
        except api_keys.NotRotatableError:
            raise CommandError("This key works no more or was rotated before. Make a new one.") from None
        self._show(text)

    def _revoke(self, options: dict[str, Any]) -> None:
        key = _key(options["key"])
        is_new = api_keys.revoke(key, actor=SYSTEM)
        self.stdout.write(f"{key.shown_id} is revoked." if is_new else f"{key.shown_id} was revoked before.")

    def _show(self, text: str) -> None:
        self.stderr.write("This is the only time that the key is shown.")
        self.stdout.write(text)


def _days(options: dict[str, Any]) -> timedelta:
    if not 1 <= options["days"] <= 3650:
        raise CommandError("--days must be between 1 and 3650.")
    return timedelta(days=options["days"])


def _networks(options: dict[str, Any]) -> list[str]:
    try:
        networks = list(dict.fromkeys(normalise_network(network) for network in options["networks"]))
    except NetworkError as error:
        raise CommandError(f"An IP range {error}.") from None
    if len(networks) > MOST_NETWORKS:
        raise CommandError(f"These are {len(networks)} ranges; {MOST_NETWORKS} is the most.")
    return networks


def _application(slug: str) -> Application:
    application = Application.objects.filter(slug=slug).first()
    if application is None:
        raise CommandError(f"There is no application '{slug}'.")
    return application


def _key(text: str) -> ApiKey:
    # The whole key may be what somebody has at hand after a leak.
    public_id = text.removeprefix("dpk_").partition("_")[0]
    key = ApiKey.objects.select_related("application").filter(public_id=public_id).first()
    if key is None:
        raise CommandError("There is no such key. `manage.py apikey list` prints those that work.")
    return key
