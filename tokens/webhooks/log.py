"""Read an endpoint's delivery log: what stands in it, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from portal.models import WebhookMessage
from portal.models.webhooks import FAILING_AFTER, MessageStatus
from portal.webhook_words import OUTCOMES

if TYPE_CHECKING:
    import datetime as dt

    from portal.models import WebhookAttempt, WebhookEndpoint

PAGE_ROWS = 25


@dataclass(frozen=True)
class State:
    """A word, its tone, and a sentence that says what it means."""

    tone: str
    word: str
    detail: str = ""


@dataclass(frozen=True)
class LogPage:
    """Some messages, newest first, and where the neighbouring pages begin."""

    messages: list[tuple[WebhookMessage, State]]
    newer: int | None = None
    older: int | None = None


def log_page(
    endpoint: WebhookEndpoint,
    *,
    status: str = "",
    before: int | None = None,
    after: int | None = None,
    now: dt.datetime,
) -> LogPage:
    """Return the page older than the message `before`, newer than `after`, or the newest one."""
    rows = WebhookMessage.objects.filter(endpoint=endpoint)
    if status:
        rows = rows.filter(status=status)
    newer: int | None
    older: int | None
    if after:
        found = list(rows.filter(pk__gt=after).order_by("id")[: PAGE_ROWS + 1])
        if len(found) <= PAGE_ROWS:
            return log_page(endpoint, status=status, now=now)
        found = found[:PAGE_ROWS][::-1]
        newer, older = found[0].pk, found[-1].pk
    else:
        found = list((rows.filter(pk__lt=before) if before else rows).order_by("-id")[: PAGE_ROWS + 1])
        older = found[PAGE_ROWS - 1].pk if len(found) > PAGE_ROWS else None
        found = found[:PAGE_ROWS]
        newer = found[0].pk if before and found else None
    return LogPage([(message, message_state(message, now)) for message in found], newer, older)


def message_state(message: WebhookMessage, now: dt.datetime) -> State:
    """Tell how a message stands. Needs its endpoint loaded only where it waits."""
    if message.status == MessageStatus.DELIVERED:
        return State("good", "Delivered")
    if message.status == MessageStatus.FAILED:
        return State("bad", "Failed")
    if message.claim_until and message.claim_until > now:
        return State("busy", "Under way")
    if message.failures:
        return State("warn", "Retrying")
    return State("quiet", "Waiting")


def endpoint_state(endpoint: WebhookEndpoint) -> State:
    """Tell how an endpoint stands."""
    if endpoint.is_disabled:
        return State(
            "quiet" if endpoint.disabled_reason == "member" else "bad",
            "Disabled",
            f"{endpoint.get_disabled_reason_display()}.",
        )
    if endpoint.misses_in_a_row >= FAILING_AFTER:
        return State("bad", "Failing", "It is tried with one message at a time until it takes one.")
    if endpoint.misses_in_a_row:
        return State("warn", "Last try failed")
    return State("good", "Working")


def attempt_state(attempt: WebhookAttempt, *, is_under_way: bool) -> State:
    """Tell what a try came to."""
    if attempt.outcome:
        tone, word = OUTCOMES.get(attempt.outcome, ("bad", attempt.outcome.capitalize()))
        return State(tone, word)
    if is_under_way:
        return State("busy", "Under way")
    return State(
        "warn", "No known end", "The worker stopped before it could note an answer, so it was sent again."
    )
