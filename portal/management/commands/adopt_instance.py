"""Let this installation refresh with this database's tokens."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from portal import instance


class Command(BaseCommand):
    """Adopt a restored or copied database. Stop the installation that it was copied from first."""

    help = "Let this installation refresh with this database's tokens. Stop the one that it was copied from first."

    def handle(self, *args: Any, **options: Any) -> None:
        """Write INSTANCE_ID into the database."""
        if not settings.INSTANCE_ID:
            raise CommandError(
                "INSTANCE_ID is not set: give this installation a random one, and start it with that."
            )
        if not instance.is_foreign():
            self.stdout.write("This database is this installation's already.")
            return
        instance.adopt()
        self.stdout.write(
            "Adopted. Workers here refresh its connections from now on; the original's must not run."
        )
