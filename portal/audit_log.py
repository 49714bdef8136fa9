"""Read the audit log: filter it, page through it, say it in words.

Paging is by key (time, then id), so the thousandth page costs what the first does. What an index can't find (a text, a
part of a name; hand-outs, where proxy calls are the many) is looked for in a window of the newest rows, and the page says how far back it looked: a page is fast
whatever is stored.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from portal.models import AuditEvent, Event
from portal.models.api_keys import KeyPermission
from portal.models.webhooks import WebhookType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.models import QuerySet

    from portal.models import Application

PAGE_ROWS = 50
# Rows that one page looks through for what no index finds.
WINDOW_ROWS = 20_000
EXPORT_ROWS = 2_000


# Names of details that people may not know, and those whose values are codes.
_LABELS = {"gen": "generation"}
_CODED = {"failure", "permissions", "problem", "types"}
_WORDS = {**dict(KeyPermission.choices), **dict(WebhookType.choices)}


@dataclass(frozen=True)
class AuditFilter:
    """What to look for; days are UTC, both included."""

    event: str = ""
    who: str = ""
    since: dt.date | None = None
    until: dt.date | None = None
    text: str = ""

    @property
    def needs_a_window(self) -> bool:
        """Tell whether rows have to be looked through one by one."""
        return bool(self.who or self.text) or self.is_unindexed

    @property
    def is_unindexed(self) -> bool:
        """Tell whether the index by event leaves it out (portal/models/audit.py)."""
        return self.event == Event.TOKEN_HANDED_OUT

    def described(self) -> dict[str, str]:
        """Return what is set, in words, for the audit event of an export."""
        return {name: str(value) for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class AuditPage:
    """Some events, newest first, and where the neighbouring pages begin."""

    events: list[AuditEvent]
    newer: int | None = None
    older: int | None = None
    # Set when the window ended before the page was full: there may be more further back.
    looked_back_to: dt.datetime | None = None


def audit_page(
    application: Application, wanted: AuditFilter, *, before: int | None = None, after: int | None = None
) -> AuditPage:
    """Return the page older than the event `before`, newer than `after`, or the newest one."""
    rows = _indexed(application, wanted)
    cursor = AuditEvent.objects.filter(application_id=application.pk, pk=after or before or 0).first()
    if cursor and after:
        # A page that isn't full has reached the newest event: then the newest page says more.
        return _newer_page(rows, wanted, cursor) or audit_page(application, wanted)
    if cursor:
        rows = rows.filter(older_than(cursor))
    rows = rows.order_by("-at", "-id")
    window_end = end_of_window(rows) if wanted.needs_a_window else None
    if window_end:
        rows = rows.filter(not_older_than(window_end))
    events = list(_matching(rows, wanted)[: PAGE_ROWS + 1])
    has_more = len(events) > PAGE_ROWS
    events = events[:PAGE_ROWS]
    is_cut = window_end is not None and not has_more
    return AuditPage(
        events,
        newer=(events[0].pk if events else cursor.pk) if cursor else None,
        older=events[-1].pk if has_more else window_end.pk if window_end else None,
        looked_back_to=window_end.at if window_end and is_cut else None,
    )


def end_of_window(rows: QuerySet[AuditEvent]) -> AuditEvent | None:
    """Return the last of the rows that one page looks through, in their order; None if it looks through all of them."""
    last = list(rows[WINDOW_ROWS - 1 : WINDOW_ROWS + 1])
    return last[0] if len(last) == 2 else None


def every_event(application: Application, wanted: AuditFilter) -> Iterator[AuditEvent]:
    """Yield all that match, newest first, in short queries: nothing is held open while a slow client reads."""
    cursor: AuditEvent | None = None
    while True:
        rows = _indexed(application, wanted)
        if cursor:
            rows = rows.filter(older_than(cursor))
        chunk = list(_matching(rows, wanted).order_by("-at", "-id")[:EXPORT_ROWS])
        yield from chunk
        if len(chunk) < EXPORT_ROWS:
            return
        cursor = chunk[-1]


def in_words(event: AuditEvent) -> str:
    """Say an event's detail as people do: "role: Support → Admin"."""
    return "; ".join(_phrases(event.detail))


def _newer_page(rows: QuerySet[AuditEvent], wanted: AuditFilter, cursor: AuditEvent) -> AuditPage | None:
    rows = rows.filter(_newer_than(cursor)).order_by("at", "id")
    window_end = end_of_window(rows) if wanted.needs_a_window else None
    if window_end:
        rows = rows.filter(_not_newer_than(window_end))
    events = list(_matching(rows, wanted)[: PAGE_ROWS + 1])
    if len(events) > PAGE_ROWS:
        events = events[:PAGE_ROWS]
        return AuditPage(events[::-1], newer=events[-1].pk, older=events[0].pk)
    if window_end:
        return AuditPage(events[::-1], newer=window_end.pk, older=events[0].pk if events else window_end.pk)
    return None


def _indexed(application: Application, wanted: AuditFilter) -> QuerySet[AuditEvent]:
    """Apply what an index finds."""
    rows = AuditEvent.objects.filter(application_id=application.pk)
    if wanted.event and not wanted.is_unindexed:
        rows = rows.filter(event=wanted.event)
    if wanted.since:
        rows = rows.filter(at__gte=_midnight(wanted.since))
    if wanted.until:
        rows = rows.filter(at__lt=_midnight(wanted.until + dt.timedelta(days=1)))
    return rows


def _matching(rows: QuerySet[AuditEvent], wanted: AuditFilter) -> QuerySet[AuditEvent]:
    """Apply what has to be looked for row by row."""
    if wanted.is_unindexed:
        rows = rows.filter(event=wanted.event)
    if wanted.who:
        rows = rows.filter(actor_name__icontains=wanted.who)
    for word in wanted.text.split():
        rows = rows.filter(
            Q(subject_name__icontains=word)
            | Q(subject_id=word)
            | Q(request_id=word)
            | Q(detail__icontains=word)
            | Q(ip_address__startswith=word)
        )
    return rows


# The first comparison is what the index is searched by, the second settles events of the same instant.
def older_than(event: AuditEvent) -> Q:
    """Keep what comes after an event, newest first."""
    return Q(at__lte=event.at) & (Q(at__lt=event.at) | Q(pk__lt=event.pk))


def not_older_than(event: AuditEvent) -> Q:
    """Keep an event and what comes before it, newest first."""
    return Q(at__gte=event.at) & (Q(at__gt=event.at) | Q(pk__gte=event.pk))


def _not_newer_than(event: AuditEvent) -> Q:
    return Q(at__lte=event.at) & (Q(at__lt=event.at) | Q(pk__lte=event.pk))


def _newer_than(event: AuditEvent) -> Q:
    return Q(at__gte=event.at) & (Q(at__gt=event.at) | Q(pk__gt=event.pk))


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)


def _phrases(detail: dict[str, Any]) -> Iterator[str]:
    for key, value in detail.items():
        label, value = _LABELS.get(key) or key.replace("_", " "), _decoded(key, value)
        if key == "changes" and isinstance(value, dict):
            yield from (
                _change(name.replace("_", " "), _decoded(name, change)) for name, change in value.items()
            )
        elif value is True:
            yield label
        elif key.endswith("_at") and value:
            yield f"{label}: {_moment(value)}"
        elif value not in (None, "", False, [], {}):
            yield f"{label}: {_value(value)}"


def _decoded(key: str, value: Any) -> Any:
    """Return a detail with words in place of codes."""
    if key in _CODED and isinstance(value, list):
        return [_decoded(key, one) for one in value]
    if key in _CODED and isinstance(value, str):
        return _WORDS.get(value) or value.replace("_", " ")
    return value


def _change(name: str, change: Any) -> str:
    if isinstance(change, list) and len(change) == 2:
        return f"{name}: {_value(change[0])} → {_value(change[1])}"
    return f"{name}: {_value(change)}"


def _moment(value: Any) -> str:
    try:
        return f"{dt.datetime.fromisoformat(value).astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
    except (TypeError, ValueError):
        return _value(value)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(_phrases(value)) or "none"
    return "none" if value in (None, "") else str(value)
