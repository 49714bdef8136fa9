"""Write the audit log."""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings

from portal.models.audit import ActorKind, AuditEvent, Event
from portal.outbox import tell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db import models
    from django.http import HttpRequest

    from portal.models import ApiKey, Application


@dataclass(frozen=True)
class Actor:
    """Who does something, and from where."""

    kind: ActorKind
    id: str = ""
    name: str = ""
    ip_address: str | None = None
    request_id: str = ""


SYSTEM = Actor(ActorKind.SYSTEM, name="portal")


def member_of(request: HttpRequest) -> Actor:
    """Return the signed-in person of a request as an actor."""
    user = request.user
    return Actor(ActorKind.MEMBER, str(user.pk), str(user), client_address(request), request_id(request))


def staff_of(request: HttpRequest) -> Actor:
    """Return the staff member of an admin request as an actor."""
    user = request.user
    return Actor(ActorKind.STAFF, str(user.pk), str(user), client_address(request), request_id(request))


def end_user_of(request: HttpRequest, end_user: str) -> Actor:
    """Return an application's end user as an actor, named by the application's id for them."""
    return Actor(ActorKind.END_USER, end_user, end_user, client_address(request), request_id(request))


def api_key_of(request: HttpRequest, key: ApiKey) -> Actor:
    """Return the program behind an API request, named by its key."""
    return Actor(ActorKind.API_KEY, str(key.pk), key.name, client_address(request), request_id(request))


def record(
    event: Event,
    *,
    actor: Actor,
    application: Application | None = None,
    subject: models.Model | None = None,
    subject_name: str = "",
    **detail: Any,
) -> AuditEvent:
    """Add one audit event, and what webhooks tell of it, in the caller's transaction. `detail` must hold no secret."""
    written = AuditEvent.objects.create(
        event=event,
        application_id=application.pk if application else None,
        application_name=application.name if application else "",
        actor_kind=actor.kind,
        actor_id=actor.id,
        actor_name=actor.name,
        ip_address=actor.ip_address,
        subject_kind=subject._meta.model_name or "" if subject else "",
        subject_id=str(subject.pk) if subject else "",
        subject_name=(subject_name or (str(subject) if subject else ""))[:254],
        detail=detail,
        request_id=actor.request_id,
    )
    tell(written, subject)
    return written


def client_address(request: HttpRequest) -> str | None:
    """Return the client's address: the peer's, or what the outermost trusted proxy saw (H6)."""
    return address_of(request.META)


def address_of(environ: Mapping[str, Any]) -> str | None:
    """Return the client's address as a WSGI environment tells it."""
    address = environ.get("REMOTE_ADDR", "")
    if settings.TRUSTED_PROXIES:
        hops = [hop.strip() for hop in environ.get("HTTP_X_FORWARDED_FOR", "").split(",") if hop.strip()]
        if len(hops) >= settings.TRUSTED_PROXIES:
            address = hops[-settings.TRUSTED_PROXIES]
    return _canonical(address)


@functools.lru_cache(maxsize=1024)
def _canonical(address: str) -> str | None:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return None


def request_id(request: HttpRequest) -> str:
    """Return the id that this request's log lines carry."""
    return getattr(request, "request_id", "")
