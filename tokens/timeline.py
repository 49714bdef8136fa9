"""Everything that happened to one grant: audit events and refresh attempts, merged, newest first."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from portal.audit_log import in_words
from portal.models import AuditEvent, Event
from portal.models.audit import ActorKind
from providers.spec import Outcome
from tokens.models import RefreshAttempt, Trigger
from tokens.results import FENCED, UNREADABLE

if TYPE_CHECKING:
    from tokens.models import Grant

# Before rows are folded.
PAGE_SIZE = 60
# The columns' largest numbers: nothing of that stream has been shown yet.
LAST_EVENT, LAST_EPOCH = 2**63 - 1, 2**31 - 1

GOOD = {Event.GRANT_CONNECTED, Event.GRANT_CONFIRMED, Event.GRANT_RECONNECTED, Event.GRANT_RECOVERED}
BAD = {Event.GRANT_NEEDS_RECONNECT, Event.GRANT_REJECTED, Event.CONNECT_FAILED}

ATTEMPTS: dict[str, tuple[str, str]] = {
    Outcome.OK: ("good", "Refreshed"),
    Outcome.GRANT_DEAD: ("bad", "Refresh refused"),
    Outcome.CLIENT_BAD: ("bad", "Refresh refused: client ID or secret"),
    Outcome.NOT_SENT: ("warn", "Refresh not sent"),
    Outcome.THROTTLED: ("warn", "Asked to slow down"),
    Outcome.AMBIGUOUS: ("warn", "Refresh without a usable answer"),
    FENCED: ("quiet", "Late answer set aside"),
    UNREADABLE: ("bad", "Tokens unreadable"),
}
TRIGGERS: dict[str, str] = {
    Trigger.BEAT: "on schedule",
    Trigger.READER: "because a token was asked for",
    Trigger.MEMBER: "because a member asked",
    Trigger.STAFF: "because staff asked",
    Trigger.API: "because the application asked",
}
# What stands before the name; a member needs nothing.
ACTORS: dict[str, str] = {
    ActorKind.END_USER: "end user",
    ActorKind.STAFF: "staff",
    ActorKind.API_KEY: "API key",
    ActorKind.LINK: "reconnect",
}


@dataclass(frozen=True)
class Entry:
    """One line of the timeline. `first_at` and `times` tell of several like it in a row."""

    at: dt.datetime
    tone: str
    title: str
    text: str = ""
    who: str = ""
    ip_address: str = ""
    times: int = 1
    first_at: dt.datetime | None = None
    is_folding: bool = False


@dataclass(frozen=True)
class Timeline:
    """Some entries, newest first, and where the older ones begin ("" at the end)."""

    entries: list[Entry]
    older: str = ""


def timeline_of(grant: Grant, *, before: str = "", now: dt.datetime, size: int = PAGE_SIZE) -> Timeline:
    """Return a page of the timeline; `before` is an earlier page's `older`, anything else counts as none.

    The cursor holds one place in each of the two streams, so no event is lost or shown twice at a page's edge,
    however many bear the same time.
    """
    event_id, epoch = _read_cursor(before)
    events = AuditEvent.objects.about_grant(grant.pk).filter(id__lt=event_id).order_by("-id")
    attempts = RefreshAttempt.objects.filter(grant=grant, epoch__lt=epoch).order_by("-epoch")
    waiting_events = list(events[: size + 1])
    waiting_attempts = list(attempts[: size + 1])
    has_more = len(waiting_events) + len(waiting_attempts) > size
    entries: list[Entry] = []
    while len(entries) < size and (waiting_events or waiting_attempts):
        if not waiting_attempts or (
            waiting_events and waiting_events[0].at >= waiting_attempts[0].claimed_at
        ):
            event = waiting_events.pop(0)
            event_id = event.pk
            entries.append(_of_event(event))
        else:
            attempt = waiting_attempts.pop(0)
            epoch = attempt.epoch
            entries.append(_of_attempt(attempt, grant, now))
    return Timeline(_fold(entries), older=f"{event_id}-{epoch}" if has_more else "")


def _read_cursor(text: str) -> tuple[int, int]:
    event_id, _, epoch = text.partition("-")
    if event_id.isascii() and event_id.isdigit() and epoch.isascii() and epoch.isdigit() and len(text) < 40:
        return min(int(event_id), LAST_EVENT), min(int(epoch), LAST_EPOCH)
    return LAST_EVENT, LAST_EPOCH


def _of_event(event: AuditEvent) -> Entry:
    kind = Event(event.event) if event.event in Event.values else None
    who = f"{ACTORS.get(event.actor_kind, '')} {event.actor_name}".strip()
    return Entry(
        at=event.at,
        tone="good" if kind in GOOD else "bad" if kind in BAD else "quiet",
        title=event.get_event_display(),
        text=in_words(event),
        who="" if event.actor_kind == ActorKind.SYSTEM else who,
        ip_address=event.ip_address or "",
        is_folding=kind is Event.TOKEN_HANDED_OUT,
    )


def _of_attempt(attempt: RefreshAttempt, grant: Grant, now: dt.datetime) -> Entry:
    if not attempt.outcome:
        is_running = (
            attempt.epoch == grant.claim_epoch and grant.claim_until is not None and grant.claim_until > now
        )
        tone, title = (
            ("quiet", "Refresh under way") if is_running else ("warn", "Refresh without a known end")
        )
    else:
        tone, title = ATTEMPTS.get(attempt.outcome, ("warn", f"Refresh: {attempt.outcome.replace('_', ' ')}"))
    parts = [attempt.cause]
    if attempt.outcome != Outcome.OK:
        parts += [f"HTTP {attempt.http_status}" if attempt.http_status else "", attempt.error_code]
    parts.append(TRIGGERS.get(attempt.trigger, ""))
    if attempt.sent_at and attempt.answered_at:
        parts.append(
            f"answered in {round((attempt.answered_at - attempt.sent_at) / dt.timedelta(milliseconds=1)):,} ms"
        )
    return Entry(
        at=attempt.claimed_at,
        tone=tone,
        title=title,
        text=", ".join(dict.fromkeys(part for part in parts if part)),
        is_folding=attempt.outcome == Outcome.OK and attempt.trigger == Trigger.BEAT and not attempt.cause,
    )


def _fold(entries: list[Entry]) -> list[Entry]:
    """Make one line of what happens all the time and went well: a thousand would hide the rest."""
    folded: list[Entry] = []
    for entry in entries:
        last = folded[-1] if folded else None
        is_same = last and entry.is_folding and last.is_folding
        if last and is_same and (entry.title, entry.who) == (last.title, last.who):
            folded[-1] = replace(last, times=last.times + 1, first_at=entry.at, text="")
        else:
            folded.append(entry)
    return folded
