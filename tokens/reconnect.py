"""The reconnect link that comes with a `needs_reconnect` answer, ready for the end user.

A back end may ask for the token of a grant that has ended every second, so a link costs no row: what it is for stands in
it, sealed to the grant (portal/encryption.py), and it ends with the hour or with the grant's state, whichever is first. Only
pressing its button makes a connect session, which from then on is like that of a link copied on the portal: the same account
repairs the grant in place, another one is a second connection that waits for a member (A5, A17). So whoever has the link,
as a key that may do nothing but read tokens, can let the end user repair what they gave, and gains nothing else.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import uuid
from datetime import timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.urls import reverse

from portal.audit import Actor
from portal.encryption import Place, UnreadableError, key_ring
from portal.models.audit import ActorKind
from tokens.clock import database_now
from tokens.errors import ProviderDisabledError
from tokens.failures import ConnectFailedError
from tokens.models import Confirmation, ConnectSession, Grant, GrantStatus
from tokens.sessions import (
    find_session,
    is_allowed_return_url,
    last_return_url,
    open_session,
    require_working,
)

LIFETIME = timedelta(hours=1)
# Connect sessions of one grant in an hour, by however many links. A person needs one.
MOST_SESSIONS = 20


class Link(NamedTuple):
    """What a link says. `given_to` is the shown id of the API key whose call it answered."""

    gen: int
    expires_at: int
    given_to: str


def reconnect_link(grant: Grant, *, given_to: str) -> tuple[str, dt.datetime]:
    """Return the address of a new link, on PUBLIC_URL, and until when it is good."""
    expires_at = (database_now() + LIFETIME).replace(microsecond=0)
    link = Link(grant.gen, int(expires_at.timestamp()), given_to)
    sealed = key_ring().seal(json.dumps(link), _place(grant))
    token = base64.urlsafe_b64encode(grant.pk.bytes + sealed).rstrip(b"=").decode()
    return str(settings.PUBLIC_URL) + reverse("reconnect-page", args=[token]), expires_at


def look_up(token: str) -> ConnectSession:
    """Return the connect session of a link, or the unsaved one that its button would make.

    Raises ConnectFailedError, with that session where the link is one of ours.
    """
    return _look_up(token)[0]


def press(token: str, *, ip_address: str | None, request_id: str) -> ConnectSession:
    """Return the connect session of a link, made by the first press of its button. Raises ConnectFailedError."""
    grant = _look_up(token)[0].reconnect_grant
    assert grant is not None
    with transaction.atomic():
        # One press after the other: a double click finds the session, and the limit holds however many links there are.
        Grant.objects.select_for_update(no_key=True).filter(pk=grant.pk).first()
        session, link = _look_up(token)
        if not session._state.adding:
            return session
        lately = ConnectSession.objects.filter(
            reconnect_grant=grant,
            confirmation=Confirmation.MEMBER,
            created_by=None,
            created_at__gt=Now() - LIFETIME,
        )
        if lately.count() >= MOST_SESSIONS:
            raise ConnectFailedError("too_many_links", session=session)
        actor = Actor(ActorKind.LINK, link.given_to, f"link given to {link.given_to}", ip_address, request_id)
        try:
            return open_session(
                session.provider_config,
                end_user=session.end_user,
                confirmation=Confirmation.MEMBER,
                actor=actor,
                return_url=session.return_url,
                reconnect_grant=session.reconnect_grant,
                lifetime=LIFETIME,
                token=_name(token),
            )[0]
        except ProviderDisabledError:
            raise ConnectFailedError("provider_disabled", session=session) from None


def _look_up(token: str) -> tuple[ConnectSession, Link]:
    grant, link = _open(token)
    session = find_session(_name(token)) or _draft(grant, link)
    if grant.status == GrantStatus.REVOKED:
        raise ConnectFailedError("connection_revoked", session=session)
    if grant.status != GrantStatus.NEEDS_RECONNECT:
        raise ConnectFailedError("already_repaired", session=session)
    if grant.gen != link.gen or database_now().timestamp() >= link.expires_at:
        raise ConnectFailedError("reconnect_expired", session=session)
    try:
        require_working(session)
    except ConnectFailedError as failure:
        failure.session = session
        raise
    return session, link


def _open(token: str) -> tuple[Grant, Link]:
    """Return the grant that a link is for, and what it says. Raises ConnectFailedError."""
    try:
        padded = token + "=" * (-len(token) % 4)
        raw = base64.b64decode(padded, altchars=b"-_", validate=True)
        # One link has one spelling, or it would make a session by each.
        if base64.urlsafe_b64encode(raw).decode() != padded:
            raise ValueError
        pk = uuid.UUID(bytes=raw[:16])
        grant = Grant.objects.select_related("provider_config__application", "application").get(pk=pk)
        return grant, Link(*json.loads(key_ring().unseal(raw[16:], _place(grant))))
    except (ValueError, UnreadableError, Grant.DoesNotExist):
        raise ConnectFailedError("unknown_link") from None


def _place(grant: Grant) -> Place:
    """Name what a link is sealed to: it opens for no other grant, and not in another application."""
    return Place("tokens_grant", "reconnect_link", row=str(grant.pk), tenant=str(grant.application_id))


def _name(token: str) -> str:
    """Return what stands for the token of an ordinary link, as which it must not be found."""
    return f"reconnect/{token}"


def _draft(grant: Grant, link: Link) -> ConnectSession:
    config, return_url = grant.provider_config, last_return_url(grant)
    return ConnectSession(
        application=grant.application,
        provider_config=config,
        confirmation=Confirmation.MEMBER,
        end_user=grant.end_user,
        scopes=config.scopes,
        return_url=return_url if is_allowed_return_url(grant.application, return_url) else "",
        reconnect_grant=grant,
        expires_at=dt.datetime.fromtimestamp(link.expires_at, dt.UTC),
    )
