"""The outbox of webhooks: write down what an application's endpoints are to be told, with the change itself.

`portal.audit.record` calls `tell` for everything that happens, in the transaction of the change, so no change can
forget it, and a change that is rolled back is told to nobody. tokens/webhooks/ sends what stands here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from django.db import connection, transaction

from portal.models.audit import Event
from portal.models.webhooks import WebhookType
from portal.propose import propose

if TYPE_CHECKING:
    import datetime as dt
    import uuid
    from collections.abc import Iterable

    from portal.models import AuditEvent

DELIVER_TASK = "tokens.tasks.deliver_webhooks"
# The next one says the same.
HINT_LIFE_S = 10

TYPES = {
    # Whichever of the two finds the grant active: with a login that vouches there is nothing left to confirm.
    Event.GRANT_CONNECTED: WebhookType.GRANT_CONNECTED,
    Event.GRANT_CONFIRMED: WebhookType.GRANT_CONNECTED,
    Event.GRANT_RECONNECTED: WebhookType.GRANT_RECONNECTED,
    Event.GRANT_NEEDS_RECONNECT: WebhookType.GRANT_NEEDS_RECONNECT,
    Event.GRANT_RECOVERED: WebhookType.GRANT_RECOVERED,
    Event.GRANT_REVOKED: WebhookType.GRANT_REVOKED,
    Event.PROVIDER_FAILING: WebhookType.PROVIDER_FAILING,
    Event.PROVIDER_RECOVERED: WebhookType.PROVIDER_RECOVERED,
}

# The lock keeps an endpoint from being deleted before this transaction ends; it hinders nobody else who tells.
_WRITE = """
INSERT INTO portal_webhookmessage (uid, endpoint_id, type, subject_id, body, created_at, next_attempt_at)
SELECT gen_random_uuid(), endpoint.id, %(type)s, message.subject_id, message.body, statement_timestamp(), statement_timestamp()
FROM (
    SELECT id FROM portal_webhookendpoint
    WHERE application_id = %(application)s AND disabled_at IS NULL AND types @> ARRAY[%(type)s]::varchar[]
    ORDER BY id FOR KEY SHARE
) endpoint
CROSS JOIN unnest(%(subjects)s::uuid[], %(bodies)s::text[]) WITH ORDINALITY AS message (subject_id, body, number)
ORDER BY message.number
"""


@runtime_checkable
class Told(Protocol):
    """A model that applications are told of."""

    pk: uuid.UUID

    def webhook_data(self, detail: dict[str, Any]) -> dict[str, Any] | None:
        """Return what an application is told, without any secret (F4); None where it is not to know."""


def tell(event: AuditEvent, subject: object) -> None:
    """Write an audit event's message for every endpoint that wants it, in the caller's transaction."""
    kind = TYPES.get(Event(event.event))
    if kind is None or event.application_id is None or not isinstance(subject, Told):
        return
    data = subject.webhook_data(event.detail)
    if data is not None:
        write(event.application_id, kind, [(subject.pk, data)], at=event.at)


def write(
    application_id: uuid.UUID,
    kind: WebhookType,
    things: Iterable[tuple[uuid.UUID, dict[str, Any]]],
    *,
    at: dt.datetime,
) -> None:
    """Write one message for each thing and each endpoint that wants it; things are subjects with their data."""
    rows = [(subject_id, body_of(kind, data, at=at)) for subject_id, data in things]
    values: dict[str, Any] = {
        "type": kind.value,
        "application": application_id,
        "subjects": [subject_id for subject_id, _ in rows],
        "bodies": [body for _, body in rows],
    }
    with connection.cursor() as cursor:
        cursor.execute(_WRITE, values)
        is_told = cursor.rowcount > 0
    if is_told:
        hint_after_commit()


def body_of(kind: str, data: dict[str, Any], *, at: dt.datetime) -> str:
    """Return a payload as Standard Webhooks has it, in ASCII: whatever a person is called, its bytes are clear."""
    return json.dumps({"type": kind, "timestamp": at.isoformat().replace("+00:00", "Z"), "data": data})


def hint_after_commit() -> None:
    """Have a worker look into the outbox as soon as the transaction is committed; once, however much it wrote."""
    if not any(hook[1] is hint for hook in connection.run_on_commit):
        transaction.on_commit(hint)


def hint() -> None:
    """Tell a worker that there is something to send."""
    propose(DELIVER_TASK, expires=HINT_LIFE_S)
