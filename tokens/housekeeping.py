"""Erase what has had its time, in small batches. Running it twice, or on ten machines, is harmless."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction

from portal.audit import SYSTEM
from portal.models import WebhookAttempt, WebhookEndpoint, WebhookMessage
from tokens.clock import database_now
from tokens.counts import fold
from tokens.models import (
    AuthorizationRequest,
    ConnectSession,
    Grant,
    GrantStatus,
    KeptAnswer,
    ManageLink,
    RefreshAttempt,
    RefreshCount,
)
from tokens.models.connect import SessionStatus
from tokens.revoke import revoke

if TYPE_CHECKING:
    import datetime as dt

    from django.db.models import QuerySet

BATCH = 1000
# So long a call to the API can be sent again without being carried out again.
KEPT_ANSWERS_FOR = timedelta(hours=24)


def tidy() -> None:
    """Do all of it once."""
    now = database_now()
    fold()
    _delete(AuthorizationRequest.objects.filter(expires_at__lt=now - timedelta(days=1)))
    _delete(Session.objects.filter(expire_date__lt=now), key="session_key")
    # Between the exchange and the choice of sites tokens wait in the session: not longer than the session lives.
    ConnectSession.objects.filter(expires_at__lt=now, exchanged__isnull=False).update(
        exchanged=None, status=SessionStatus.FAILED, failure="abandoned"
    )
    old_sessions = ConnectSession.objects.filter(
        expires_at__lt=now - timedelta(days=settings.KEEP_CONNECT_SESSIONS_DAYS)
    )
    # By the others the end user's own page knows the browser, for as long as there is something to disconnect. Asked in
    # two, each finds the few along an index; "not of a living grant" read all that are kept, every time.
    _delete(old_sessions.filter(grant=None))
    _delete(old_sessions.filter(grant__status=GrantStatus.REVOKED))
    _delete(
        RefreshAttempt.objects.filter(
            claimed_at__lt=now - timedelta(days=settings.KEEP_REFRESH_ATTEMPTS_DAYS)
        )
    )
    _delete(
        RefreshCount.objects.filter(starts_at__lt=now - timedelta(days=settings.KEEP_REFRESH_COUNTS_DAYS))
    )
    _delete(KeptAnswer.objects.filter(created_at__lt=now - KEPT_ANSWERS_FOR))
    _delete(ManageLink.objects.filter(expires_at__lt=now - timedelta(days=1)))
    _tidy_webhooks(now)
    waited_too_long = Grant.objects.filter(
        status=GrantStatus.PENDING, consented_at__lt=now - timedelta(days=settings.KEEP_UNCONFIRMED_DAYS)
    )
    _delete_grants(
        Grant.objects.filter(
            status=GrantStatus.REVOKED, revoked_at__lt=now - timedelta(days=settings.KEEP_REVOKED_DAYS)
        )
    )
    for grant in waited_too_long.select_related("provider_config__application")[:BATCH]:
        revoke(grant, actor=SYSTEM, reason="nobody confirmed it")


def _tidy_webhooks(now: dt.datetime) -> None:
    """Erase old messages, those too that wait for a disabled endpoint, and secrets that no longer sign."""
    old = WebhookMessage.objects.filter(created_at__lt=now - timedelta(days=settings.KEEP_WEBHOOKS_DAYS))
    while keys := list(old.values_list("pk", flat=True)[:BATCH]):
        with transaction.atomic():
            WebhookAttempt.objects.filter(message__in=keys).delete()
            WebhookMessage.objects.filter(pk__in=keys).delete()
    WebhookEndpoint.objects.filter(earlier_secret_until__lt=now).update(
        earlier_secret=None, earlier_secret_until=None
    )


def _delete_grants(grants: QuerySet[Grant]) -> None:
    """Delete in batches, each grant locked before what hangs on it, as everybody does; what others hold can wait."""
    while True:
        with transaction.atomic():
            free = grants.order_by("pk").select_for_update(skip_locked=True)
            keys = list(free.values_list("pk", flat=True)[:BATCH])
            if not keys:
                return
            Grant.objects.filter(pk__in=keys).delete()


def _delete(rows: QuerySet[Any], *, key: str = "pk") -> None:
    """Delete in batches, so that no transaction is long."""
    while True:
        keys = list(rows.order_by().values_list(key, flat=True)[:BATCH])
        if not keys:
            return
        rows.model.objects.filter(**{f"{key}__in": keys}).delete()
