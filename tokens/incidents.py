"""When providers stopped working and worked again, from the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from portal.models import AuditEvent, Event

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from providers.models import ProviderConfig

LATEST = 10
WHY = {
    "client_refused": "It refused the client ID or secret.",
    "secret_unreadable": "The stored client secret could not be decrypted.",
    "unreachable": "It gave no usable answer several times in a row.",
    "many_refused": "It refused many connections at once.",
    "profile_refused": "It did not show us who connected.",
}


@dataclass(frozen=True)
class Incident:
    """A provider stopped working, or works again."""

    at: dt.datetime
    is_over: bool
    config: ProviderConfig
    why: str


def incidents_of(configs: Sequence[ProviderConfig], since: dt.datetime) -> list[Incident]:
    """Return what happened since then, the latest first; one statement."""
    by_id = {str(config.pk): config for config in configs}
    events = AuditEvent.objects.filter(
        application_id__in={config.application_id for config in configs},
        event__in=[Event.PROVIDER_FAILING, Event.PROVIDER_RECOVERED],
        subject_id__in=list(by_id),
        at__gte=since,
    )
    return [
        Incident(
            at=event.at,
            is_over=event.event == Event.PROVIDER_RECOVERED,
            config=by_id[event.subject_id],
            why=WHY.get(event.detail.get("problem", ""), ""),
        )
        for event in events.order_by("-at", "-id")[:LATEST]
    ]
