"""Vouch for a connection: only then is it active (A5)."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Now

from portal.audit import Actor, record
from portal.models import Event
from portal.models.applications import digest
from tokens.clock import database_now
from tokens.errors import NotPendingError, ReturnCodeError
from tokens.models import Confirmation, ConnectSession, Grant, GrantStatus
from tokens.models.connect import SessionStatus
from tokens.revoke import revoke
from tokens.store import plan_refresh

if TYPE_CHECKING:
    from portal.models import Application

RETURN_CODE_LIFETIME = timedelta(minutes=10)


def confirm(grant: Grant, *, actor: Actor) -> Grant:
    """Make a waiting grant active: a member has looked at the account. Raises NotPendingError."""
    with transaction.atomic():
        grant = _activate(grant)
        record(Event.GRANT_CONFIRMED, actor=actor, application=grant.application, subject=grant)
    return grant


def reject(grant: Grant, *, actor: Actor) -> Grant:
    """Take a waiting grant back: the account is not the end user's. Raises NotPendingError."""
    if not Grant.objects.filter(pk=grant.pk, status=GrantStatus.PENDING).exists():
        raise NotPendingError
    return revoke(grant, actor=actor, reason="the account is not the end user's", event=Event.GRANT_REJECTED)


def new_return_code(session: ConnectSession) -> str:
    """Return a one-time code for the application, good for ten minutes; an earlier one of the session ends.

    Raises ReturnCodeError where the session has no connection that a code could be for.
    """
    code = secrets.token_urlsafe(32)
    stored = (
        ConnectSession.objects.filter(
            pk=session.pk, status=SessionStatus.DONE, confirmation=Confirmation.CODE, grant__isnull=False
        )
        .exclude(grant__status=GrantStatus.REVOKED)
        .update(return_code_digest=digest(code), return_code_expires_at=Now() + RETURN_CODE_LIFETIME)
    )
    if not stored:
        raise ReturnCodeError
    return code


def exchange_return_code(application: Application, *, code: str, end_user: str, actor: Actor) -> Grant:
    """Trade a one-time code for the grant of the end user it belongs to, which is active from now on.

    The code is spent by the first try, also a wrong one. Raises ReturnCodeError.
    """
    with transaction.atomic():
        session = (
            ConnectSession.objects.select_for_update()
            .filter(
                application=application, return_code_digest=digest(code), return_code_expires_at__gt=Now()
            )
            .first()
        )
        if session is not None:
            session.return_code_digest, session.return_code_expires_at = "", None
            session.save(update_fields=["return_code_digest", "return_code_expires_at"])
    # Outside the transaction, so that a wrong try has spent the code.
    if session is None or session.end_user != end_user or session.grant is None:
        raise ReturnCodeError
    with transaction.atomic():
        grant = Grant.objects.select_for_update().get(pk=session.grant.pk)
        if grant.status == GrantStatus.PENDING:
            grant = _activate(grant)
            record(Event.GRANT_CONFIRMED, actor=actor, application=application, subject=grant)
    if grant.status == GrantStatus.REVOKED:
        raise ReturnCodeError
    return grant


def _activate(grant: Grant) -> Grant:
    grant = (
        Grant.objects.select_for_update(of=("self",))
        .select_related("provider_config__application")
        .get(pk=grant.pk)
    )
    if grant.status != GrantStatus.PENDING:
        raise NotPendingError
    grant.status = GrantStatus.ACTIVE
    grant.confirmed_at = now = database_now()
    plan_refresh(grant, now)
    grant.save(update_fields=["status", "confirmed_at", "refresh_due_at"])
    return grant
