"""`manage.py database_role NAME`: what the running portal may do in the database, and no more (G3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from portal.database_role import DatabaseRoleError, give_rights

if TYPE_CHECKING:
    from argparse import ArgumentParser


class Command(BaseCommand):
    """Let a role run the portal without being able to change the audit log."""

    help = (
        "Give an existing database role what web, worker and beat need; not the right to change or delete audit events and "
        "their seals, nor tables. Run it as the tables' owner, who runs the migrations too; again does no harm."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the role's name."""
        parser.add_argument("role", help="a role that can log in and owns nothing here")

    def handle(self, *args: Any, **options: Any) -> None:
        """Give the rights."""
        role = options["role"]
        try:
            give_rights(role)
        except DatabaseRoleError as error:
            raise CommandError(str(error)) from None
        except DatabaseError as error:
            raise CommandError(
                f"The database refused: {error}. Run this as the owner of the portal's tables."
            ) from None
        self.stdout.write(
            f"'{role}' can run web, worker and beat now, and can't change the audit log. Put it into their DATABASE_URL; "
            "migrate as the owner, as before."
        )
