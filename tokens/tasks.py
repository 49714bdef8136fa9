"""Celery tasks: they carry nothing and only translate."""

from __future__ import annotations

from datetime import timedelta

from celery import shared_task

from portal.audit_seals import seal_events
from tokens import upstream
from tokens.breaker import tell_everybody
from tokens.engine import drain
from tokens.housekeeping import tidy
from tokens.import_grants import look_at_imported
from tokens.replan import replan_all
from tokens.webhooks.deliver import deliver
from tokens.webhooks.mail import mail_about_disabled

# Whoever has much to do lets other tasks have a turn after so long.
A_TURN = timedelta(seconds=20)


@shared_task(ignore_result=True)
def refresh_due() -> None:
    """Refresh what is due. Proposed by beat; running it twice, or on ten machines, is harmless."""
    tell_everybody()
    replan_all()
    drain()
    look_at_imported()


@shared_task(ignore_result=True)
def deliver_webhooks() -> None:
    """Send the webhooks that are due. Proposed by beat, and by a hint after each commit that wrote one."""
    if deliver():
        mail_about_disabled()


@shared_task(ignore_result=True)
def end_upstream() -> None:
    """End at providers what a deletion left. Proposed by the deletion; housekeeping finds what no proposal told of."""
    after = upstream.retry_due(budget=A_TURN)
    if after is not None:
        upstream.hint(after)


@shared_task(ignore_result=True)
def housekeeping() -> None:
    """Erase what has had its time, and seal the audit log."""
    tidy()
    # It proposes no more of itself: what a deletion set going goes on beside it.
    upstream.retry_due()
    upstream.give_up_old()
    mail_about_disabled()
    seal_events(budget=A_TURN)
