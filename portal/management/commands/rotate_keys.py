"""`manage.py rotate_keys`: seal everything anew with the first key of ENCRYPTION_KEYS."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from portal.encryption import key_ring
from portal.keycheck import WrongKeyError, check_keys
from portal.rotate import BATCH_ROWS, Rotation, rotate

if TYPE_CHECKING:
    from argparse import ArgumentParser

SHOWN = 20


class Command(BaseCommand):
    """Rotate the encryption keys online; it can be stopped at any moment and run again."""

    help = (
        "Seal everything anew with the first key of ENCRYPTION_KEYS. Put the new key in front, restart every process, "
        "then run this; the portal keeps working. It can be stopped at any moment and run again. At the end it says "
        "which keys may go."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the size of a batch."""
        parser.add_argument(
            "--batch", type=int, default=BATCH_ROWS, help="rows a transaction (default: %(default)s)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Rotate, and end with 1 if something could not be read or was left."""
        try:
            check_keys()
        except WrongKeyError as error:
            raise CommandError(str(error)) from None
        current = key_ring().current
        rotation = rotate(batch_rows=max(1, options["batch"]), tell=self._tell)
        if not rotation.done and not rotation.left:
            self.stdout.write(f"Everything is sealed with the key '{current}' already.")
        for value in sorted(rotation.unreadable)[:SHOWN]:
            self.stderr.write(f"No key opens {value.column} of {value.table} {value.row}: left as it is.")
        if len(rotation.unreadable) > SHOWN:
            self.stderr.write(f"... and {len(rotation.unreadable) - SHOWN} more.")
        left = {key_id: rows for key_id, rows in rotation.in_use.items() if key_id != current}
        if rotation.unreadable:
            self.stderr.write(
                "Connecting again, or setting the client secret again, repairs them. Until then every key check is kept."
            )
        elif left:
            counts = ", ".join(f"{rows} with '{key_id}'" for key_id, rows in sorted(left.items()))
            self.stderr.write(
                f"Still sealed with an earlier key: {counts}. A process with earlier settings wrote them: restart every "
                f"process with '{current}' in front, and run this again."
            )
        if rotation.removable:
            self.stdout.write(
                f"These keys may be removed from ENCRYPTION_KEYS: {', '.join(rotation.removable)}"
            )
        if rotation.unreadable or left:
            sys.exit(1)

    def _tell(self, rotation: Rotation, table: str) -> None:
        self.stdout.write(f"{rotation.done} rows done, {rotation.left} left ({table})")
        self.stdout.flush()
