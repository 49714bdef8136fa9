"""Hand a grant's access token out: fresh, written down first, and with the truth about how long it may be used."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.db import DatabaseError, transaction

from portal.audit import Actor, record
from portal.encryption import UnreadableError, unseal
from portal.models import Event
from tokens.clock import database_now
from tokens.errors import AuditUnavailableError, NotConfirmedError, RevokedError, UnreadableTokenError
from tokens.models import Grant, GrantStatus, GrantTokens
from tokens.refresh import ensure_fresh

if TYPE_CHECKING:
    import datetime as dt
    from datetime import timedelta


@dataclass(frozen=True)
class HandedOut:
    """An access token with its times; `grant` is the row that it was read with."""

    grant: Grant
    access_token: str = field(repr=False)
    expires_at: dt.datetime | None  # None: it does not end.
    use_until: dt.datetime | None


def hand_out(
    grant: Grant,
    *,
    min_ttl: timedelta,
    actor: Actor,
    event: Event = Event.TOKEN_HANDED_OUT,
    **detail: str,
) -> HandedOut:
    """Return the grant's access token, refreshed if it is good for less than min_ttl, with its use on record.

    Of a short-lived token at most half its life is asked for: more would refresh it at every call. `event` and `detail`
    say what it is for, where it does not leave the portal. Raises
    NotConfirmedError, RevokedError, UnreadableTokenError, AuditUnavailableError and what ensure_fresh raises.
    """
    _require_given(grant)
    if grant.access_expires_at and grant.refreshed_at:
        min_ttl = min(min_ttl, (grant.access_expires_at - grant.refreshed_at) / 2)
    fresh = ensure_fresh(grant, min_ttl=min_ttl)
    try:
        with transaction.atomic():
            return _write_down_and_read(fresh, actor, event, detail)
    except DatabaseError:
        raise AuditUnavailableError from None


def _write_down_and_read(fresh: Grant, actor: Actor, event: Event, detail: dict[str, str]) -> HandedOut:
    """Read the token under the grant's lock, so that it, its times and the audit row tell of one generation (D9)."""
    grant = (
        Grant.objects.select_for_update(of=("self",), no_key=True)
        .select_related("application", "provider_config__application")
        .get(pk=fresh.pk)
    )
    # Revoked since the refresh: the commit of the revocation came first, so nothing is handed out after it.
    _require_given(grant)
    tokens = GrantTokens.objects.filter(grant=grant).first()
    if tokens is None:
        raise UnreadableTokenError
    tokens.grant = grant
    try:
        access_token = unseal(tokens, "access_token")
    except UnreadableError:
        raise UnreadableTokenError from None
    if not access_token:
        raise UnreadableTokenError
    now = database_now()
    grant.used_at = now
    grant.save(update_fields=["used_at"])
    use_until = usable_until(grant, now)
    record(
        event,
        actor=actor,
        application=grant.application,
        subject=grant,
        provider=grant.provider_config.provider_id,
        gen=grant.gen,
        use_until=use_until.isoformat() if use_until else None,
        **detail,
    )
    return HandedOut(grant, access_token, grant.access_expires_at, use_until)


def usable_until(grant: Grant, now: dt.datetime) -> dt.datetime | None:
    """Return until when the access token surely works (I12); None if it does not end.

    At some providers an old access token dies a while (`companion`) after the next refresh, whatever its expiry says.
    The next refresh may come at any moment, a person's or another reader's, so that while counts from now; where an
    answer is under way or was lost, from when it was asked for.
    """
    companion = grant.provider_config.spec.refresh.companion
    if companion is None:
        return grant.access_expires_at
    until = min(now, grant.inflight_since or now) + companion
    return min(until, grant.access_expires_at) if grant.access_expires_at else until


def _require_given(grant: Grant) -> None:
    if grant.status == GrantStatus.PENDING:
        raise NotConfirmedError
    if grant.status == GrantStatus.REVOKED:
        raise RevokedError
