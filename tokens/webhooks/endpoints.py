"""Make endpoints, change them, rotate their secrets, switch them off and on, test them; each with its audit event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection, transaction
from django.db.models.functions import Now

from portal.audit import record
from portal.encryption import UnreadableError, seal, unseal
from portal.models import Event, WebhookEndpoint, WebhookMessage
from portal.models.webhooks import TEST_TYPE, DisabledReason, MessageStatus, hide_path
from portal.outbox import body_of, hint_after_commit
from tokens.clock import database_now
from tokens.webhooks.signing import new_secret

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta

    from portal.audit import Actor
    from portal.models import Application, User

# A change is told to each of them, in the change's own transaction.
MOST_ENDPOINTS = 20
_EMPTY = (
    "DELETE FROM portal_webhookattempt a USING portal_webhookmessage m WHERE m.id = a.message_id AND m.endpoint_id = %s",
    "DELETE FROM portal_webhookmessage WHERE endpoint_id = %s",
)


class TooManyEndpointsError(Exception):
    """The application has as many endpoints as it may have."""


class EndpointDisabledError(Exception):
    """Nothing is sent to a disabled endpoint."""


def create(
    application: Application,
    *,
    name: str,
    url: str,
    types: Collection[str],
    created_by: User | None = None,
    actor: Actor,
) -> tuple[WebhookEndpoint, str]:
    """Make an endpoint and return it with its secret, which nobody can read again. Raises TooManyEndpointsError."""
    secret = new_secret()
    endpoint = WebhookEndpoint(
        application=application, name=name, url=url, types=sorted(types), created_by=created_by
    )
    seal(endpoint, "secret", secret)
    with transaction.atomic():
        # Two at once can't both be the last one that fits.
        type(application).objects.select_for_update(no_key=True).get(pk=application.pk)
        if application.webhook_endpoints.count() >= MOST_ENDPOINTS:
            raise TooManyEndpointsError
        endpoint.save(force_insert=True)
        record(
            Event.WEBHOOK_CREATED,
            actor=actor,
            application=application,
            subject=endpoint,
            url=endpoint.shown_url,
            types=endpoint.types,
        )
    return endpoint, secret


def change(endpoint: WebhookEndpoint, *, name: str, url: str, types: Collection[str], actor: Actor) -> bool:
    """Change what may be changed, and tell whether anything did. What waits goes to the new address."""
    before, after = (
        {"name": endpoint.name, "url": endpoint.url, "types": endpoint.types},
        {"name": name, "url": url, "types": sorted(types)},
    )
    changes = {field: [before[field], after[field]] for field in before if before[field] != after[field]}
    if not changes:
        return False
    if "url" in changes:
        # What stands after the host is nobody's business; that it changed is.
        changes["url"] = [hide_path(endpoint.url), hide_path(url)]
    endpoint.name, endpoint.url, endpoint.types = name, url, sorted(types)
    with transaction.atomic():
        endpoint.save(update_fields=["name", "url", "types"])
        record(
            Event.WEBHOOK_CHANGED,
            actor=actor,
            application=endpoint.application,
            subject=endpoint,
            changes=changes,
        )
    return True


def rotate(endpoint: WebhookEndpoint, *, overlap: timedelta, actor: Actor) -> str:
    """Return a new secret; for `overlap` the one before it signs too (F3), one from before that no longer does."""
    secret = new_secret()
    with transaction.atomic():
        locked = WebhookEndpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
        # The associated data names the column, so the sealed value can't just be moved.
        seal(locked, "earlier_secret", _readable_secret(locked) if overlap else None)
        seal(locked, "secret", secret)
        locked.secret_set_at = Now()
        locked.earlier_secret_until = Now() + overlap if locked.earlier_secret else None
        locked.save(update_fields=["secret", "earlier_secret", "secret_set_at", "earlier_secret_until"])
        record(
            Event.WEBHOOK_SECRET_ROTATED,
            actor=actor,
            application=endpoint.application,
            subject=endpoint,
            **({"earlier_one_good_for": str(overlap)} if overlap else {}),
        )
    endpoint.refresh_from_db()
    return secret


def disable(endpoint: WebhookEndpoint, *, reason: DisabledReason, actor: Actor) -> bool:
    """Send nothing more to an endpoint, and tell whether that is new. What waits is kept; nothing new is written."""
    with transaction.atomic():
        rows = WebhookEndpoint.objects.filter(pk=endpoint.pk, disabled_at=None)
        if not rows.update(disabled_at=Now(), disabled_reason=reason, mailed_at=None, paused_until=None):
            return False
        record(
            Event.WEBHOOK_DISABLED,
            actor=actor,
            application=endpoint.application,
            subject=endpoint,
            reason=reason.label,
        )
    return True


def enable(endpoint: WebhookEndpoint, *, actor: Actor) -> bool:
    """Send again, beginning with what waits, and tell whether that is new."""
    with transaction.atomic():
        is_new = WebhookEndpoint.objects.filter(pk=endpoint.pk, disabled_at__isnull=False).update(
            disabled_at=None, disabled_reason="", misses_in_a_row=0, failing_since=None, paused_until=None
        )
        if not is_new:
            return False
        endpoint.messages.filter(status=MessageStatus.PENDING).update(next_attempt_at=Now(), failures=0)
        record(Event.WEBHOOK_ENABLED, actor=actor, application=endpoint.application, subject=endpoint)
        hint_after_commit()
    return True


def delete(endpoint: WebhookEndpoint, *, actor: Actor) -> None:
    """Delete an endpoint with its messages and its log, in a few statements however many there are."""
    with transaction.atomic(), connection.cursor() as cursor:
        # Whoever writes a message for it just now is waited for; afterwards nobody finds it.
        WebhookEndpoint.objects.select_for_update().filter(pk=endpoint.pk).first()
        # Django's own cascade would read every row first.
        for statement in _EMPTY:
            cursor.execute(statement, [endpoint.pk])
        record(
            Event.WEBHOOK_DELETED,
            actor=actor,
            application=endpoint.application,
            subject=endpoint,
            url=endpoint.shown_url,
        )
        WebhookEndpoint.objects.filter(pk=endpoint.pk).delete()


def delete_all_of_application(application: Application, actor: Actor) -> None:
    """Delete the endpoints of an application that is about to be deleted: there is nobody left to tell."""
    for endpoint in application.webhook_endpoints.select_related("application"):
        delete(endpoint, actor=actor)


def send_test(endpoint: WebhookEndpoint, *, actor: Actor) -> WebhookMessage:
    """Write a test message for this endpoint alone, to be sent at once. Raises EndpointDisabledError."""
    with transaction.atomic():
        _let_through(endpoint)
        message = WebhookMessage.objects.create(
            endpoint=endpoint,
            type=TEST_TYPE,
            body=body_of(TEST_TYPE, {"endpoint": endpoint.name}, at=database_now()),
            is_by_hand=True,
            next_attempt_at=endpoint.created_at,
        )
        record(Event.WEBHOOK_TESTED, actor=actor, application=endpoint.application, subject=endpoint)
        hint_after_commit()
    return message


def redeliver(message: WebhookMessage, *, actor: Actor) -> None:
    """Send a message once more, at once, with the same id and body (F2). Raises EndpointDisabledError.

    One that waits for its next try keeps its plan; one that had ended is tried once. Pressing twice sends once.
    """
    endpoint = message.endpoint
    with transaction.atomic():
        _let_through(endpoint)
        locked = WebhookMessage.objects.select_for_update().get(pk=message.pk)
        now = database_now()
        is_due = locked.next_attempt_at is not None and locked.next_attempt_at <= now
        if is_due or (locked.claim_until and locked.claim_until > now):
            return
        if locked.status != MessageStatus.PENDING:
            locked.is_by_hand = True
        locked.status, locked.finished_at, locked.claim_until = MessageStatus.PENDING, None, None
        # Before everything else that waits for this endpoint.
        locked.next_attempt_at = endpoint.created_at
        locked.save(update_fields=["status", "is_by_hand", "finished_at", "next_attempt_at", "claim_until"])
        record(
            Event.WEBHOOK_REDELIVERED,
            actor=actor,
            application=endpoint.application,
            subject=endpoint,
            message=message.public_id,
        )
        hint_after_commit()


def redeliver_failed(endpoint: WebhookEndpoint, *, actor: Actor) -> int:
    """Plan every message that was given up anew, as if it had just been written, and return how many they are.

    Raises EndpointDisabledError.
    """
    with transaction.atomic():
        _let_through(endpoint)
        failed = endpoint.messages.filter(status=MessageStatus.FAILED).exclude(type=TEST_TYPE)
        number = failed.update(
            status=MessageStatus.PENDING,
            is_by_hand=False,
            failures=0,
            finished_at=None,
            next_attempt_at=Now(),
        )
        if number:
            record(
                Event.WEBHOOK_REDELIVERED,
                actor=actor,
                application=endpoint.application,
                subject=endpoint,
                messages=number,
            )
            hint_after_commit()
    return number


def _let_through(endpoint: WebhookEndpoint) -> None:
    """End a pause, since a person asks. Raises EndpointDisabledError."""
    if not WebhookEndpoint.objects.filter(pk=endpoint.pk, disabled_at=None).update(paused_until=None):
        raise EndpointDisabledError


def _readable_secret(endpoint: WebhookEndpoint) -> str | None:
    try:
        return unseal(endpoint, "secret")
    except UnreadableError:
        return None
