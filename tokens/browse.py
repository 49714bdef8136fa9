"""Find grants for people: search, filters, and pages that stay fast and stable however many there are."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, Q
from django.db.models.functions import Now

from tokens.models import Grant, GrantStatus, Site
from tokens.results import UNREADABLE

if TYPE_CHECKING:
    from django.db.models import QuerySet

PAGE_SIZE = 50
# Beyond this the exact number helps nobody and costs a scan.
COUNT_LIMIT = 10_000
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)

ACTIVE = Q(status=GrantStatus.ACTIVE)
RUNNING = Q(provider_config__is_enabled=True, application__archived_at=None)
# The same words, by the same rules, as tokens.state.describe.
WORKING = ACTIVE & RUNNING & Q(fail_outcome="")
FAILING = ACTIVE & RUNNING & ~Q(fail_outcome="")
NOT_UNREADABLE = ~Q(fail_outcome=UNREADABLE)
PAUSED = ACTIVE & ~RUNNING
# A provider that ends a connection on a fixed day tells nobody; so we do, this long before.
REMIND_BEFORE = dt.timedelta(days=30)
ENDING = ACTIVE & Q(absolute_deadline__lt=Now() + REMIND_BEFORE)
# What the status filter offers: its value, the word on the page, and the grants that it keeps.
STATUS_FILTERS: dict[str, tuple[str, Q]] = {
    "attention": (
        "Needs attention",
        Q(status__in=[GrantStatus.PENDING, GrantStatus.NEEDS_RECONNECT]) | FAILING,
    ),
    "working": ("Working", WORKING),
    "retrying": ("Retrying", FAILING & NOT_UNREADABLE),
    "ending": ("Ends soon", ENDING),
    "pending": ("Waiting for confirmation", Q(status=GrantStatus.PENDING)),
    "needs_reconnect": ("Needs reconnect", Q(status=GrantStatus.NEEDS_RECONNECT)),
    "unreadable": ("Unreadable", ACTIVE & RUNNING & Q(fail_outcome=UNREADABLE)),
    "paused": ("Paused", PAUSED),
    "revoked": ("Revoked", Q(status=GrantStatus.REVOKED)),
}


def searched(grants: QuerySet[Grant], text: str) -> QuerySet[Grant]:
    """Keep grants in which every word occurs: in the end user, label, account or a site's name, whatever its case."""
    for word in text.lower().replace("\x00", "").split()[:8]:
        grants = grants.filter(search_text__contains=word)
    return grants


def with_site_names(grants: QuerySet[Grant]) -> QuerySet[Grant]:
    """Bring the names of the chosen sites as `site_names`, in the same statement."""
    chosen = Site.objects.filter(grant=OuterRef("pk"), is_chosen=True).order_by("name", "cloud_id")
    return grants.annotate(site_names=ArraySubquery(chosen.values("name")))


def count_up_to(grants: QuerySet[Grant], limit: int | None = None) -> int:
    """Count, but not beyond `limit`: limit + 1 means more than that."""
    limit = limit or COUNT_LIMIT
    return grants.order_by()[: limit + 1].count()


@dataclass(frozen=True)
class Page:
    """One page of grants, newest first, and the cursors of its neighbours ("" where there is none)."""

    rows: list[Grant]
    newer: str = ""
    older: str = ""

    @property
    def is_whole(self) -> bool:
        """Tell whether there is nothing beside this page."""
        return not (self.newer or self.older)


def page_of(grants: QuerySet[Grant], *, newer: str = "", older: str = "", size: int | None = None) -> Page:
    """Return the page of grants that lies beyond a cursor, or the first.

    Keyset paging: a page begins after a grant, not after a number of them, so rows that come in meanwhile shift
    nothing and the last page costs what the first one does. A cursor that can't be read counts as none.
    """
    size = size or PAGE_SIZE
    if newer and (place := _read_cursor(newer)):
        rows = list(_beyond(grants, place, "gt").order_by("connected_at", "id")[: size + 1])
        # Less than a page above: show the first page, whole.
        if len(rows) > size:
            rows = rows[:size][::-1]
            return Page(rows, newer=_cursor(rows[0]), older=_cursor(rows[-1]))
    place = _read_cursor(older) if older else None
    ordered = grants.order_by("-connected_at", "-id")
    rows = list((_beyond(ordered, place, "lt") if place else ordered)[: size + 1])
    return Page(
        rows[:size],
        newer=_cursor(rows[0]) if place and rows else "",
        older=_cursor(rows[size - 1]) if len(rows) > size else "",
    )


def is_cursor(text: str) -> bool:
    """Tell whether a text can be read as a cursor."""
    return _read_cursor(text) is not None


def _beyond(grants: QuerySet[Grant], place: tuple[dt.datetime, uuid.UUID], way: str) -> QuerySet[Grant]:
    at, pk = place
    # The first condition is implied by the second; it is the one that the index can use.
    return grants.filter(
        Q(**{f"connected_at__{way}e": at}), Q(**{f"connected_at__{way}": at}) | Q(**{f"id__{way}": pk})
    )


def _cursor(grant: Grant) -> str:
    return f"{(grant.connected_at - EPOCH) // MICROSECOND}-{grant.pk.hex}"


def _read_cursor(text: str) -> tuple[dt.datetime, uuid.UUID] | None:
    micros, _, pk = text.partition("-")
    try:
        return EPOCH + int(micros) * MICROSECOND, uuid.UUID(pk)
    except (ValueError, OverflowError):
        return None
