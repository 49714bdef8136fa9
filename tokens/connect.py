"""Connect: from a link to a grant.

A session is one link. Each press of its button makes an authorization request, which lives ten minutes and is spent
by the first callback that names its state from the same browser. What the callback brings is held against what the
request wrote down. The order is: browser, state, configuration, `iss`, error, exchange, account and sites, choice,
grant. The checks are in tokens/exchange.py, what can be asked of a session in tokens/sessions.py.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Greatest, Now

from portal.audit import Actor, record
from portal.encryption import UnreadableError, seal, unseal
from portal.models import Event
from portal.models.applications import digest
from portal.models.audit import ActorKind
from providers import oauth
from tokens.clock import database_now
from tokens.errors import BadSessionRequestError
from tokens.exchange import Callback, exchange
from tokens.exchanged import Exchanged
from tokens.failures import ConnectFailedError
from tokens.models import AuthorizationRequest, Confirmation, ConnectSession
from tokens.models.connect import SessionStatus
from tokens.sessions import (
    connect_url,
    find_session,
    is_allowed_return_url,
    is_grant_in_browser,
    new_browser_secret,
    open_session,
    require_usable,
    require_working,
    scopes_to_ask,
    session_in_browser,
)
from tokens.store import store_grant

if TYPE_CHECKING:
    from collections.abc import Collection

    from portal.models import User

__all__ = [
    "Callback",
    "choose_sites",
    "connect_url",
    "find_session",
    "is_allowed_return_url",
    "is_grant_in_browser",
    "new_browser_secret",
    "open_session",
    "receive",
    "require_usable",
    "scopes_to_ask",
    "session_in_browser",
    "start",
    "waiting_exchange",
]

STATE_LIFETIME = timedelta(minutes=10)
CHOICE_LIFETIME = timedelta(minutes=30)
# A link can be pressed again after a Cancel or a failure, but not without end.
MOST_TRIES = 20


def start(session: ConnectSession, *, browser: str, user: User | None, actor: Actor) -> str:
    """Write an authorization request down and return where to send the browser.

    `browser` is the secret in its cookie. Raises ConnectFailedError.
    """
    require_usable(session, user_id=user.pk if user else None)
    if session.authorization_requests.count() >= MOST_TRIES:
        raise ConnectFailedError("too_many_tries")
    config = session.provider_config
    try:
        credentials = config.credentials()
    except UnreadableError:
        failure = ConnectFailedError("unreadable_secret", session=session)
        _note_failure(session, failure, actor)
        raise failure from None
    state, verifier = oauth.new_state(), oauth.new_code_verifier()
    request = AuthorizationRequest(
        session=session,
        state_digest=digest(state),
        browser_digest=digest(browser),
        user=user if session.confirmation == Confirmation.LOGIN else None,
        client_id=credentials.client_id,
        redirect_uri=config.redirect_uri,
        token_url=config.spec.token_url,
        issuer=config.spec.issuer,
        scopes=scopes_to_ask(session),
        expires_at=Now() + STATE_LIFETIME,
    )
    seal(request, "code_verifier", verifier)
    with transaction.atomic():
        # Only while it is open: whoever presses the button late must not take the result over (A3).
        claimed = ConnectSession.objects.filter(pk=session.pk, status=SessionStatus.OPEN).update(
            browser_digest=digest(browser), failure=""
        )
        if not claimed:
            raise ConnectFailedError("link_used")
        request.save(force_insert=True)
        record(
            Event.CONNECT_STARTED,
            actor=actor,
            application=session.application,
            subject=session,
            subject_name=session.end_user,
            provider=config.provider_id,
        )
    return oauth.authorization_url(
        config.spec,
        client_id=credentials.client_id,
        redirect_uri=request.redirect_uri,
        scopes=request.scopes,
        state=state,
        verifier=verifier,
    )


def receive(callback: Callback, *, actor: Actor) -> ConnectSession:
    """Take a callback: spend its state, exchange the code, find account and sites, and store if nothing is to choose.

    Returns the session, done or waiting for the choice of sites. Raises ConnectFailedError, whose `session` is set
    once the browser has been recognised. `actor` says from where; who it is, the state tells.
    """
    request = _recognise(callback)
    session = request.session
    actor = _named(actor, request)
    try:
        _spend(request)
        exchanged = exchange(session, request, callback)
    except ConnectFailedError as failure:
        failure.session = session
        # A reload brings what is known already, or is on its way: nothing new to note.
        if failure.code != "link_used":
            _note_failure(session, failure, actor)
        raise
    # From here on it belongs to the browser that came back, whoever pressed the button last (A3).
    session.browser_digest = request.browser_digest
    if len(exchanged.sites) > 1:
        _let_choose(session, exchanged)
        return session
    everything = [site.cloud_id for site in exchanged.sites]
    return _finish(session, exchanged, chosen=everything, from_status=SessionStatus.OPEN, actor=actor)


def waiting_exchange(session: ConnectSession) -> Exchanged | None:
    """Return what waits for the choice of sites, or None if nothing does or it can't be read."""
    try:
        text = unseal(session, "exchanged")
    except UnreadableError:
        return None
    return Exchanged.loads(text) if text else None


def choose_sites(session: ConnectSession, chosen: Collection[str], *, actor: Actor) -> ConnectSession:
    """Store the grant with the chosen sites. Raises ConnectFailedError, or BadSessionRequestError for no site."""
    exchanged = waiting_exchange(session)
    if session.status == SessionStatus.DONE:
        raise ConnectFailedError("already_chosen", session=session)
    if session.status != SessionStatus.CHOOSING or session.is_expired(database_now()):
        raise ConnectFailedError("abandoned", session=session)
    if exchanged is None:
        raise ConnectFailedError("unreadable_secret", session=session)
    try:
        require_working(session)
    except ConnectFailedError as failure:
        failure.session = session
        raise
    if not chosen or not set(chosen) <= {site.cloud_id for site in exchanged.sites}:
        raise BadSessionRequestError("Choose at least one of the sites.")
    return _finish(session, exchanged, chosen=chosen, from_status=SessionStatus.CHOOSING, actor=actor)


def _recognise(callback: Callback) -> AuthorizationRequest:
    """Find the authorization request of a callback, from the right browser only. Raises ConnectFailedError."""
    request = (
        AuthorizationRequest.objects.select_related(
            "session__application",
            "session__provider_config__application",
            "session__reconnect_grant",
            "user",
        )
        .filter(
            state_digest=digest(callback.params.get("state", "")),
            # The state of one configuration at the callback of another is unknown there (A7).
            session__application__slug=callback.slug,
            session__provider_config__provider_id=callback.provider_id,
        )
        .first()
    )
    if request is None:
        raise ConnectFailedError("unknown_state")
    if not callback.browser or not hmac.compare_digest(request.browser_digest, digest(callback.browser)):
        raise ConnectFailedError("other_browser")
    if request.user_id is not None and request.user_id != callback.user_id:
        raise ConnectFailedError("other_login")
    return request


def _spend(request: AuthorizationRequest) -> None:
    """Spend the state, which only one callback can do. Raises ConnectFailedError."""
    spent = AuthorizationRequest.objects.filter(pk=request.pk, spent_at=None, expires_at__gt=Now()).update(
        spent_at=Now()
    )
    # What comes of it, also a failure, is for this browser to see.
    ConnectSession.objects.filter(pk=request.session_id, status=SessionStatus.OPEN).update(
        browser_digest=request.browser_digest
    )
    if spent != 1:
        # Read anew: a second press of Reload may have spent it since we looked.
        request.refresh_from_db(fields=["spent_at"])
        raise ConnectFailedError("link_used" if request.spent_at else "state_expired")


def _named(actor: Actor, request: AuthorizationRequest) -> Actor:
    """Return the actor as the person whom the request was made for: the member who tests, or the end user."""
    if request.user is not None:
        return replace(actor, kind=ActorKind.MEMBER, id=str(request.user.pk), name=str(request.user))
    end_user = request.session.end_user
    return replace(actor, kind=ActorKind.END_USER, id=end_user, name=end_user)


def _note_failure(session: ConnectSession, failure: ConnectFailedError, actor: Actor) -> None:
    """Remember why, for the people of the portal; the link stays good for another try until its time is over."""
    with transaction.atomic():
        ConnectSession.objects.filter(pk=session.pk, status=SessionStatus.OPEN).update(failure=failure.code)
        record(
            Event.CONNECT_FAILED,
            actor=actor,
            application=session.application,
            subject=session,
            subject_name=session.end_user,
            provider=session.provider_config.provider_id,
            failure=failure.code,
        )


def _let_choose(session: ConnectSession, exchanged: Exchanged) -> None:
    """Keep what was exchanged until the person has chosen sites. Raises ConnectFailedError."""
    seal(session, "exchanged", exchanged.dumps())
    waiting = ConnectSession.objects.filter(pk=session.pk, status=SessionStatus.OPEN).update(
        exchanged=session.exchanged,
        exchanged_at=exchanged.received_at,
        status=SessionStatus.CHOOSING,
        browser_digest=session.browser_digest,
        failure="",
        # A link that was pressed in its last minute still leaves time to choose.
        expires_at=Greatest("expires_at", Now() + CHOICE_LIFETIME),
    )
    if not waiting:
        raise ConnectFailedError("link_used", session=session)
    session.status, session.failure = SessionStatus.CHOOSING, ""


def _finish(
    session: ConnectSession,
    exchanged: Exchanged,
    *,
    chosen: Collection[str],
    from_status: SessionStatus,
    actor: Actor,
) -> ConnectSession:
    """Store the grant and end the session, which only one of two tabs can do. Raises ConnectFailedError."""
    with transaction.atomic():
        # Deleted meanwhile, with the provider configuration: then nothing is found.
        is_ours = (
            ConnectSession.objects.select_for_update().filter(pk=session.pk, status=from_status).exists()
        )
        if not is_ours:
            # What the loser was given is dropped, not ended upstream: that would end the winner's access too.
            code = "link_used" if from_status == SessionStatus.OPEN else "already_chosen"
            raise ConnectFailedError(code, session=session)
        session.grant = store_grant(session, exchanged, chosen=chosen, actor=actor)
        session.status, session.exchanged, session.failure = SessionStatus.DONE, None, ""
        session.finished_at = database_now()
        session.save(
            update_fields=["status", "browser_digest", "grant", "exchanged", "failure", "finished_at"]
        )
    return session
