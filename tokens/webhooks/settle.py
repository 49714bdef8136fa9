"""Settle a try: what the endpoint's answer means for its message, and for the endpoint itself (F5)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Coalesce

from portal.audit import SYSTEM
from portal.logs import redact
from portal.models import WebhookAttempt, WebhookEndpoint, WebhookMessage
from portal.models.webhooks import FAILING_AFTER, DisabledReason, MessageStatus
from providers.answers import retry_after
from providers.oauth import Answer, NoAnswer
from tokens.clock import database_now
from tokens.schedule import jitter
from tokens.webhooks.endpoints import disable

if TYPE_CHECKING:
    import datetime as dt

    from tokens.webhooks.claim import Claim

Reply = Answer | NoAnswer

# After each failed try; after the last of them, three days on, the message is given up.
PAUSES = [
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    *(timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)),
]
# A pause is longer by up to this share, each message's own, so that an outage does not end in a rush.
JITTER = 0.1
# An endpoint that took nothing for so long, and failed as often as one message is tried, is disabled.
DISABLE_AFTER = timedelta(days=3)
DISABLE_MISSES = len(PAUSES) + 1
# How long an endpoint that keeps failing rests between two single tries.
FAILING_PAUSE = timedelta(seconds=30)
MOST_RETRY_AFTER = timedelta(days=1)
EXCERPT_BYTES = 1024

# Nothing of this is the endpoint's fault: it was not asked. Only its message waits.
OURS = {"too late", "secret unreadable", "a fault of our own", "blocked", "no name server"}
TAKEN, GONE, REDIRECTED, BUSY, REFUSED = "taken", "gone", "redirected", "busy", "status"


def settle(claim: Claim, reply: Reply) -> None:
    """Write down what a try came to, in one short transaction of its own.

    A try that somebody else has repeated meanwhile, because its claim ran out, is noted and plans nothing. The
    endpoint comes first and its messages after it, here and wherever both are locked.
    """
    outcome = outcome_of(reply)
    wait = retry_after(reply, most=MOST_RETRY_AFTER) if isinstance(reply, Answer) else None
    with transaction.atomic(durable=True):
        now = database_now()
        if outcome == TAKEN:
            WebhookEndpoint.objects.filter(pk=claim.endpoint.pk, misses_in_a_row__gt=0).update(
                misses_in_a_row=0, failing_since=None, paused_until=None
            )
        elif outcome not in OURS:
            _blame(claim.endpoint, outcome, now, wait or timedelta(0))
        WebhookAttempt.objects.filter(message_id=claim.message_id, number=claim.number).update(
            answered_at=now,
            http_status=reply.status if isinstance(reply, Answer) else None,
            outcome=outcome,
            excerpt=excerpt_of(reply),
        )
        message = WebhookMessage.objects.select_for_update().filter(pk=claim.message_id).first()
        if message and message.status == MessageStatus.PENDING and message.tries == claim.number:
            _plan(message, outcome, now, wait or timedelta(0))


def outcome_of(reply: Reply) -> str:
    """Return in one of our own words what a reply means. Only 2xx is success; redirects are not followed (E4)."""
    if isinstance(reply, NoAnswer):
        return reply.reason
    if 200 <= reply.status < 300:
        return TAKEN
    if reply.status == 410:
        return GONE
    if 300 <= reply.status < 400:
        return REDIRECTED
    return BUSY if reply.status in (429, 502, 503, 504) else REFUSED


def excerpt_of(reply: Reply) -> str:
    """Return the beginning of an answer's body as printable text, without what looks like a secret."""
    if not isinstance(reply, Answer):
        return ""
    text = reply.body[:EXCERPT_BYTES].decode(errors="replace")
    return redact("".join(letter for letter in text if letter.isprintable() or letter in "\n\t")).strip()


def _blame(endpoint: WebhookEndpoint, outcome: str, now: dt.datetime, wait: timedelta) -> None:
    """Note a failure with the endpoint, and disable one that is gone or has failed for days."""
    rows = WebhookEndpoint.objects.filter(pk=endpoint.pk, disabled_at=None)
    rows.update(misses_in_a_row=F("misses_in_a_row") + 1, failing_since=Coalesce("failing_since", now))
    current = rows.select_related("application").first()
    if current is None or current.failing_since is None:
        return
    if outcome == GONE:
        disable(current, reason=DisabledReason.GONE, actor=SYSTEM)
    elif current.misses_in_a_row >= DISABLE_MISSES and now - current.failing_since >= DISABLE_AFTER:
        disable(current, reason=DisabledReason.FAILING, actor=SYSTEM)
    elif pause := max(wait, FAILING_PAUSE) if current.misses_in_a_row >= FAILING_AFTER else wait:
        rows.update(paused_until=now + pause)


def _plan(message: WebhookMessage, outcome: str, now: dt.datetime, wait: timedelta) -> None:
    """Finish a message, or plan its next try: a member's own is not repeated, everything else for three days."""
    message.claim_until = message.next_attempt_at = None
    if outcome == TAKEN:
        message.status, message.finished_at = MessageStatus.DELIVERED, now
    elif message.is_by_hand or message.failures >= len(PAUSES):
        message.status, message.finished_at = MessageStatus.FAILED, now
    else:
        pause = PAUSES[message.failures]
        message.failures += 1
        message.next_attempt_at = now + max(pause + jitter(message.uid, pause * JITTER), wait)
    message.save(update_fields=["status", "failures", "next_attempt_at", "claim_until", "finished_at"])
