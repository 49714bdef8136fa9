"""`audit`: the application's audit log."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.http import JsonResponse

from portal.audit_log import older_than
from portal.models import AuditEvent
from tokens.api.fields import wrong
from tokens.api.problems import NotFoundError
from tokens.api.shapes import AuditEventShape, time_shape

if TYPE_CHECKING:
    from tokens.api.door import Call

MOST_EVENTS = 200


def list_events(call: Call) -> JsonResponse:
    """List what was done in the application, newest first, a page at a time.

    Go on with `next_cursor` until it is null. The log is about all providers, so a key that is limited to some may not
    read it.
    """
    if call.key.provider_ids:
        raise NotFoundError("The audit log is about all providers, and this key may be used for some only.")
    fields = call.fields
    rows = AuditEvent.objects.filter(application_id=call.application.pk)
    if fields["event"]:
        rows = rows.filter(event=fields["event"])
    if fields["grant"]:
        try:
            rows = rows.about_grant(uuid.UUID(fields["grant"]))
        except ValueError:
            rows = rows.none()
    if cursor := fields["cursor"]:
        last = AuditEvent.objects.filter(
            application_id=call.application.pk,
            pk=int(cursor) if cursor.isascii() and cursor.isdigit() and len(cursor) < 19 else 0,
        ).first()
        if last is None:
            raise wrong("cursor", "must be the `next_cursor` of an earlier answer.")
        rows = rows.filter(older_than(last))
    events = list(rows.order_by("-at", "-id")[: fields["limit"] + 1])
    shown = events[: fields["limit"]]
    return JsonResponse(
        {
            "events": [_shape(event) for event in shown],
            "next_cursor": str(shown[-1].pk) if len(events) > len(shown) else None,
        }
    )


def _shape(event: AuditEvent) -> AuditEventShape:
    return {
        "id": str(event.pk),
        "at": time_shape(event.at),
        "event": event.event,
        "actor": {"kind": event.actor_kind, "id": event.actor_id, "name": event.actor_name},
        "ip_address": event.ip_address,
        "subject": {"kind": event.subject_kind, "id": event.subject_id, "name": event.subject_name},
        "detail": event.detail,
        "request_id": event.request_id,
    }
