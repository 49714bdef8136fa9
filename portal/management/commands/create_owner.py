"""`manage.py create_owner EMAIL`: a one-time link for the first owner of an installation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email

from portal.invitations import FIRST_OWNER_LIFETIME, invite_first_owner
from portal.models import User

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Print a link that makes somebody the owner of this installation; there is no default account (H9)."""

    help = "Print a one-time link, good for 24 hours, that makes EMAIL the owner (staff and superuser) of this installation."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the address."""
        parser.add_argument("email", help="the address that the account will have")
        parser.add_argument("--again", action="store_true", help="also when there is an owner already")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the link and print it, and nothing else, on stdout."""
        email: str = options["email"]
        try:
            validate_email(email)
        except ValidationError:
            raise CommandError(f"'{email}' is not an e-mail address.") from None
        owner = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
        if owner and not options["again"]:
            raise CommandError(
                f"This installation has an owner: {owner.email}. They can invite people in the portal. "
                "If they can't sign in any more, run this again with --again."
            )
        url = invite_first_owner(email)
        hours = round(FIRST_OWNER_LIFETIME.total_seconds() / 3600)
        self.stderr.write(f"Open this link within {hours} hours. It works once; keep it to yourself.")
        self.stdout.write(url)
