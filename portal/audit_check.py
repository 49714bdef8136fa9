"""Check that the audit log still is what was sealed, see portal/audit_seals.py."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from django.db.models import Min
from django.utils import timezone

from portal.audit_seals import audit_key, digest_of
from portal.models import AuditEvent, AuditSeal

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

# So many differences are described; the rest is counted.
SHOWN = 20
# Housekeeping seals every ten minutes, unless a transaction stays open.
LATE = timedelta(days=1)


@dataclass
class Check:
    """What a check has found so far."""

    seals: int = 0
    events: int = 0
    until: dt.datetime | None = None
    # Of the newest seal, in hex.
    digest: str = ""
    unsealed: int = 0
    differences: list[str] = field(default_factory=list)
    # With those that are not described.
    different: int = 0
    is_expected_there: bool = True
    unsealed_since: dt.datetime | None = None

    @property
    def is_well(self) -> bool:
        """Tell whether everything is as it must be."""
        return not self.different and self.is_expected_there and not self.is_late

    @property
    def is_late(self) -> bool:
        """Tell whether events wait for their seal for longer than they may."""
        return self.unsealed_since is not None and self.unsealed_since < timezone.now() - LATE


def check(
    *,
    expect: str = "",
    since: dt.datetime | None = None,
    tell: Callable[[Check], None] = lambda _: None,
) -> Check:
    """Compute every seal again, or those that end after `since`; `tell` is called after each. Raises AuditKeyError.

    `expect` is the digest, in hex, of a seal that must be there.
    """
    found = Check(is_expected_there=not expect)
    key = audit_key() if AuditSeal.objects.exists() else b""
    previous: AuditSeal | None = None
    for seal in AuditSeal.objects.order_by("id").iterator():
        digest = bytes(seal.digest)
        found.is_expected_there |= digest.hex() == expect
        if since is None or seal.until > since:
            begins = previous.until if previous else None
            computed, events = digest_of(key, bytes(previous.digest) if previous else b"", begins, seal.until)
            if not hmac.compare_digest(computed, digest) or events != seal.events:
                found.different += 1
                if found.different <= SHOWN:
                    found.differences.append(_in_words(seal, begins, events))
            found.seals += 1
            found.events += events
            found.until, found.digest = seal.until, digest.hex()
            tell(found)
        previous = seal
    newer = AuditEvent.objects.filter(at__gte=previous.until) if previous else AuditEvent.objects.all()
    found.unsealed = newer.order_by().count()
    found.unsealed_since = newer.aggregate(first=Min("at"))["first"]
    return found


def _in_words(seal: AuditSeal, begins: dt.datetime | None, events: int) -> str:
    """Say where the log is not what was sealed, and how."""
    between = f"{f'From {at(begins)}' if begins else 'From the beginning'} until {at(seal.until)}"
    if events < seal.events:
        what = f"{seal.events - events} gone"
    elif events > seal.events:
        what = (
            f"{events - seal.events} added afterwards with an earlier time, or a seal in between was taken away "
            "(or the database's clock was set back when they were written)"
        )
    else:
        what = "at least one changed, or the seal itself"
    return f"{between}: {seal.events} audit events were sealed, {events} are there now: {what}."


def at(moment: dt.datetime) -> str:
    """Write a time so that it can be looked for in the database."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
