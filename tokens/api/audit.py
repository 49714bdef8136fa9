"""`audit`: the application's audit log."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.http import JsonResponse

from portal.audit_log import end_of_window, not_older_than, older_than
from portal.models import AuditEvent, Event
from tokens.api.fields import wrong
from tokens.api.problems import NotFoundError
from tokens.api.shapes import AuditEventShape, time_shape

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from tokens.api.door import Call

MOST_EVENTS = 200


def list_events(call: Call) -> JsonResponse:
    """List what was done in the application, newest first, a page at a time.

    Go on with `next_cursor` until it is null. Where events of one kind are looked for among all that happened, a call looks
    through the newest 20,000: then a page may have few events or none, and there is more behind it. The log is about all
    providers, so a key that is limited to some may not read it.
    """
    if call.key.provider_ids:
        raise NotFoundError("The audit log is about all providers, and this key may be used for some only.")
    fields, wanted = call.fields, call.fields["event"]
    rows = AuditEvent.objects.filter(application_id=call.application.pk)
    last = _last_seen(rows, fields["cursor"])
    if fields["grant"]:
        try:
            rows = rows.about_grant(uuid.UUID(fields["grant"]))
        except ValueError:
            rows = rows.none()
        # By the index of what happened to one thing; the numbers are in the order of time.
        rows = (rows.filter(pk__lt=last.pk) if last else rows).order_by("-pk")
    else:
        rows = (rows.filter(older_than(last)) if last else rows).order_by("-at", "-id")
    # No index finds these: of a busy application or grant they would be looked for among millions.
    is_looked_for = wanted and (fields["grant"] or wanted == Event.TOKEN_HANDED_OUT)
    end = end_of_window(rows) if is_looked_for else None
    if end:
        rows = rows.filter(pk__gte=end.pk) if fields["grant"] else rows.filter(not_older_than(end))
    if wanted:
        rows = rows.filter(event=wanted)
    events = list(rows[: fields["limit"] + 1])
    shown = events[: fields["limit"]]
    after = shown[-1] if len(events) > len(shown) else end
    return JsonResponse(
        {"events": [_shape(event) for event in shown], "next_cursor": str(after.pk) if after else None}
    )


def _last_seen(rows: QuerySet[AuditEvent], cursor: str) -> AuditEvent | None:
    """Return the event that a cursor names; None for none. Raises BadFieldError."""
    if not cursor:
        return None
    is_number = cursor.isascii() and cursor.isdigit() and len(cursor) < 19
    last = rows.filter(pk=int(cursor) if is_number else 0).first()
    if last is None:
        raise wrong("cursor", "must be the `next_cursor` of an earlier answer.")
    return last


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
