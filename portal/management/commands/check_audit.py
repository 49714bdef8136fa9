"""`manage.py check_audit`: tell whether the audit log still is what was sealed (G3)."""

from __future__ import annotations

import re
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from portal.audit_check import SHOWN, Check, at, check
from portal.audit_seals import AuditKeyError
from portal.keycheck import WrongKeyError, compare_keys

if TYPE_CHECKING:
    from argparse import ArgumentParser

TELL_EVERY_S = 5
WHAT_IT_MEANS = (
    "The portal never changes or deletes audit events: somebody with rights of the database's owner did, or erased old "
    "ones on purpose (from then on check with --since). Find out who had those rights. To see what was changed, compare the "
    "events of that time with a backup that was made after it."
)
NOT_THERE = (
    "The seal that you expect is not there. The newest seals were taken away, with or without their events, or the "
    "database is an earlier backup. The log of the worker has a line 'Sealed … audit events' for each seal: the first one "
    "that is not in portal_auditseal says since when, and how many events there were."
)
LATE = (
    "Events since {since} have waited for their seal for more than a day: they are not protected. A long log takes some hours "
    "after the update that brings seals. Otherwise look whether workers run, what their logs say of sealing, and for a "
    "transaction that is open since then (pg_stat_activity, xact_start)."
)
KEY_GONE = (
    "The portal makes it once and never deletes it. Put that row back from a backup; without it no seal can be checked, "
    "and nothing more is sealed."
)


class Command(BaseCommand):
    """Compute every seal of the audit log again."""

    help = (
        "Check that the audit log is what was sealed. Says in one line that all is well; ends with 1 where it is not, and "
        "says from when to when. It only reads, and the portal keeps working."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take what is known from elsewhere."""
        parser.add_argument(
            "--expect",
            default="",
            metavar="DIGEST",
            help="a seal that must be there: what an earlier run or the worker's log has printed",
        )
        parser.add_argument(
            "--since",
            metavar="TIME",
            help="check only what was sealed after that (UTC), such as 2026-11-28, or as this command writes times",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Check, tell, and end with 1 if something is not as it must be."""
        expect = options["expect"].strip().lower()
        if expect and not re.fullmatch("[0-9a-f]{64}", expect):
            raise CommandError("--expect needs a seal as it was printed: 64 digits and letters from a to f.")
        self.told_at = time.monotonic()
        try:
            compare_keys()
            found = check(expect=expect, since=_moment(options["since"]), tell=self._tell)
        except WrongKeyError as error:
            raise CommandError(str(error)) from None
        except AuditKeyError as error:
            raise CommandError(f"{error} {KEY_GONE}") from None
        for line in found.differences:
            self.stderr.write(line)
        if found.different > SHOWN:
            self.stderr.write(f"... and {found.different - SHOWN} seals more.")
        if found.different:
            self.stderr.write(WHAT_IT_MEANS)
        if not found.is_expected_there:
            self.stderr.write(NOT_THERE)
        if found.is_late and found.unsealed_since:
            self.stderr.write(LATE.format(since=at(found.unsealed_since)))
        if not found.is_well:
            sys.exit(1)
        self.stdout.write(_all_is_well(found))

    def _tell(self, found: Check) -> None:
        if found.until and time.monotonic() - self.told_at > TELL_EVERY_S:
            self.told_at = time.monotonic()
            self.stderr.write(f"{found.events} events checked, until {at(found.until)}")
            self.stderr.flush()


def _all_is_well(found: Check) -> str:
    if found.until is None:
        return f"No seal to check. Workers make them every ten minutes. Not sealed yet: {found.unsealed}."
    return (
        f"All is well: {found.events} audit events until {at(found.until)} are as they were sealed ({found.seals} seals). "
        f"Not sealed yet: {found.unsealed}. Last seal: {found.digest}"
    )


def _moment(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        raise CommandError("--since needs a time, such as 2026-11-28 or 2026-11-28 14:30:00 UTC.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
