"""Connect: from a link to a grant.

A session is one link. Each press of its button makes an authorization request, which lives ten minutes and is spent
by the first callback that names its state from the same browser. What the callback brings is held against what the
request wrote down. The order is: browser, state, `iss`, error, exchange, account and sites, choice, grant.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Greatest, Now
from django.urls import reverse

from portal.audit import Actor, record
from portal.encryption import UnreadableError, seal, unseal
from portal.models import Event
from portal.models.applications import digest
from portal.models.audit import ActorKind
from providers import http, oauth
from providers.catalog_loader import catalog
from providers.oauth import Failure, TokenSet
from providers.spec import Outcome
from tokens.clock import database_now
from tokens.discover import DiscoveryError, discover
from tokens.errors import BadReturnUrlError, BadSessionRequestError, ProviderDisabledError
from tokens.exchanged import Exchanged
from tokens.failures import ConnectFailedError
from tokens.models import AuthorizationRequest, Confirmation, ConnectSession, Grant, GrantStatus
from tokens.models.connect import SessionStatus
from tokens.store import store_grant

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection, Mapping

    from django.db.models import QuerySet

    from portal.models import Application, User
    from providers.models import ProviderConfig

STATE_LIFETIME = timedelta(minutes=10)
LINK_LIFETIME = timedelta(hours=24)
CHOICE_LIFETIME = timedelta(minutes=30)
# A link can be pressed again after a Cancel or a failure, but not without end.
MOST_TRIES = 20


def open_session(
    config: ProviderConfig,
    *,
    end_user: str,
    confirmation: Confirmation,
    actor: Actor,
    created_by: User | None = None,
    label: str = "",
    scopes: Collection[str] | None = None,
    return_url: str = "",
    reconnect_grant: Grant | None = None,
    lifetime: timedelta = LINK_LIFETIME,
) -> tuple[ConnectSession, str]:
    """Make a connect session and return it with its link token, which is not stored and can't be read again.

    `scopes` may narrow the configuration's, never widen them. Raises ProviderDisabledError, BadReturnUrlError or
    BadSessionRequestError.
    """
    if not config.is_working:
        raise ProviderDisabledError
    end_user = end_user.strip()
    if not end_user or len(end_user) > 200 or not end_user.isprintable():
        raise BadSessionRequestError(
            "Give the application's id for the end user: 1 to 200 printable characters."
        )
    if return_url and not is_allowed_return_url(config.application, return_url):
        raise BadReturnUrlError
    if confirmation == Confirmation.CODE and not return_url:
        raise BadSessionRequestError(
            "Give a return URL: the one-time code that confirms the connection is brought there."
        )
    if reconnect_grant and (
        reconnect_grant.provider_config_id != config.pk
        or reconnect_grant.end_user != end_user
        or reconnect_grant.status == GrantStatus.REVOKED
    ):
        raise BadSessionRequestError(
            "This connection cannot be reconnected. Make a new connect link instead."
        )
    wanted = set(config.scopes if scopes is None else scopes) | set(config.spec.required_scopes)
    if unknown := wanted - set(config.scopes):
        raise BadSessionRequestError(f"Not configured for this provider: {', '.join(sorted(unknown))}.")
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        session = ConnectSession.objects.create(
            application=config.application,
            provider_config=config,
            confirmation=confirmation,
            end_user=end_user,
            label=label.strip()[:200],
            scopes=[scope for scope in config.scopes if scope in wanted],
            return_url=return_url,
            reconnect_grant=reconnect_grant,
            created_by=created_by,
            link_digest=digest(token),
            expires_at=Now() + lifetime,
        )
        record(
            Event.CONNECT_LINK_CREATED,
            actor=actor,
            application=config.application,
            subject=reconnect_grant or session,
            subject_name=end_user,
            provider=config.provider_id,
            reconnect=reconnect_grant is not None,
        )
    return session, token


def connect_url(token: str) -> str:
    """Return the address of a connect link, on PUBLIC_URL."""
    return str(settings.PUBLIC_URL) + reverse("connect-page", args=[token])


def is_allowed_return_url(application: Application, url: str) -> bool:
    """Tell whether a URL's origin is exactly one of the application's (A12).

    The URL is parsed and its parts are put together again: what does not come out the same is refused, and so is
    everything that browsers and parsers read differently.
    """
    if any(ord(character) <= 0x20 or character in "\\\x7f" for character in url) or not url.isascii():
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in {"https", "http"} or not parts.hostname or "@" in parts.netloc:
        return False
    origin = f"{parts.scheme}://{parts.hostname}" + (f":{port}" if port is not None else "")
    return url.startswith(f"{parts.scheme}://{parts.netloc}") and origin in application.return_origins


def find_session(token: str) -> ConnectSession | None:
    """Return the session of a link token, or None."""
    return _sessions().filter(link_digest=digest(token)).first()


def session_in_browser(session_id: uuid.UUID, *, browser: str) -> ConnectSession | None:
    """Return a session that this browser has started, or None: others can't look at its result (A3)."""
    if not browser:
        return None
    return _sessions().filter(pk=session_id, browser_digest=digest(browser)).first()


def is_grant_in_browser(grant_id: uuid.UUID, *, browser: str) -> bool:
    """Tell whether a grant was connected, or reconnected, in this browser: its end user may look at it there."""
    return (
        bool(browser)
        and ConnectSession.objects.filter(
            grant_id=grant_id, status=SessionStatus.DONE, browser_digest=digest(browser)
        ).exists()
    )


def _sessions() -> QuerySet[ConnectSession]:
    return ConnectSession.objects.select_related(
        "application", "provider_config__application", "reconnect_grant", "grant"
    )


def new_browser_secret() -> str:
    """Return a value for the cookie that binds a session to the browser that started it."""
    return secrets.token_urlsafe(32)


def scopes_to_ask(session: ConnectSession) -> list[str]:
    """Return the session's scopes that are still configured: an admin may have taken one away since (A16)."""
    return [scope for scope in session.scopes if scope in session.provider_config.scopes]


def require_usable(session: ConnectSession, *, user_id: int | None = None) -> None:
    """Raise ConnectFailedError unless the session's button may be pressed just now."""
    if session.status == SessionStatus.FAILED:
        raise ConnectFailedError(session.failure or "link_expired")
    if session.status != SessionStatus.OPEN:
        raise ConnectFailedError("link_used")
    if session.is_expired(database_now()):
        raise ConnectFailedError("link_expired")
    _require_working(session)
    if session.confirmation == Confirmation.LOGIN and session.created_by_id != user_id:
        raise ConnectFailedError("other_login")


def _require_working(session: ConnectSession) -> None:
    """Raise ConnectFailedError where nothing may be connected: switched off, archived, or its catalog file is gone."""
    config = session.provider_config
    if not config.is_working or config.provider_id not in catalog():
        raise ConnectFailedError("provider_disabled")


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


@dataclass(frozen=True)
class Callback:
    """What came back with the browser. `params` holds each parameter once."""

    slug: str
    provider_id: str
    params: Mapping[str, str]
    browser: str
    user_id: int | None


def receive(callback: Callback, *, actor: Actor) -> ConnectSession:
    """Take a callback: spend its state, exchange the code, find account and sites, and store if nothing is to choose.

    Returns the session, done or waiting for the choice of sites. Raises ConnectFailedError, whose `session` is set
    once the browser has been recognised. `actor` says from where; who it is, the state tells.
    """
    request = _spend_state(callback)
    session = request.session
    actor = _named(actor, request)
    try:
        exchanged = _exchange(session, request, callback)
    except ConnectFailedError as failure:
        failure.session = session
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
        _require_working(session)
    except ConnectFailedError as failure:
        failure.session = session
        raise
    if not chosen or not set(chosen) <= {site.cloud_id for site in exchanged.sites}:
        raise BadSessionRequestError("Choose at least one of the sites.")
    return _finish(session, exchanged, chosen=chosen, from_status=SessionStatus.CHOOSING, actor=actor)


def _spend_state(callback: Callback) -> AuthorizationRequest:
    """Find the authorization request of a callback and spend it, from the right browser only."""
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
    spent = AuthorizationRequest.objects.filter(pk=request.pk, spent_at=None, expires_at__gt=Now()).update(
        spent_at=Now()
    )
    if spent != 1:
        # Read anew: a second press of Reload may have spent it since we looked.
        request.refresh_from_db(fields=["spent_at"])
        raise ConnectFailedError(
            "link_used" if request.spent_at else "state_expired", session=request.session
        )
    # What comes of it, also a failure, is for this browser to see.
    ConnectSession.objects.filter(pk=request.session_id, status=SessionStatus.OPEN).update(
        browser_digest=request.browser_digest
    )
    return request


def _named(actor: Actor, request: AuthorizationRequest) -> Actor:
    """Return the actor as the person whom the request was made for: the member who tests, or the end user."""
    if request.user is not None:
        return replace(actor, kind=ActorKind.MEMBER, id=str(request.user.pk), name=str(request.user))
    end_user = request.session.end_user
    return replace(actor, kind=ActorKind.END_USER, id=end_user, name=end_user)


def _check_answer(session: ConnectSession, request: AuthorizationRequest, callback: Callback) -> str:
    """Hold the callback against what its request wrote down, and return the code. Raises ConnectFailedError."""
    if session.status != SessionStatus.OPEN:
        raise ConnectFailedError("link_used")
    _require_working(session)
    config, spec, params = session.provider_config, session.provider_config.spec, callback.params
    # The configuration may have been edited meanwhile; the answer belongs to what was asked (A6, A8).
    asked = (request.client_id, request.token_url, request.redirect_uri, request.issuer, request.scopes)
    if asked != (config.client_id, spec.token_url, config.redirect_uri, spec.issuer, scopes_to_ask(session)):
        raise ConnectFailedError("config_changed")
    # Compared as plain strings (RFC 9207 section 2.4). Without a name to compare with, the redirect URI tells
    # providers apart (A7).
    answered_by = params.get("iss")
    is_named = spec.iss == "required" or (answered_by is not None and spec.issuer)
    if is_named and answered_by != spec.issuer:
        raise ConnectFailedError("wrong_issuer")
    if error := params.get("error"):
        raise ConnectFailedError(spec.callback_errors.get(error, "refused"))
    if not params.get("code"):
        raise ConnectFailedError("bad_callback")
    return params["code"]


def _exchange(session: ConnectSession, request: AuthorizationRequest, callback: Callback) -> Exchanged:
    """Trade the code for tokens, and find out whose they are and what they reach. Raises ConnectFailedError."""
    code = _check_answer(session, request, callback)
    config, spec = session.provider_config, session.provider_config.spec
    try:
        verifier, credentials = unseal(request, "code_verifier") or "", config.credentials()
    except UnreadableError:
        raise ConnectFailedError("unreadable_secret") from None
    outgoing = oauth.exchange_request(
        spec,
        credentials,
        token_url=request.token_url,
        code=code,
        redirect_uri=request.redirect_uri,
        verifier=verifier,
    )
    sent_at = database_now()
    tokens = oauth.read_token_answer(spec, http.send_blocking(outgoing), grant_type="authorization_code")
    if not isinstance(tokens, TokenSet):
        raise _exchange_failed(config, tokens)
    if config.problem_code == "client_refused":
        config.note_recovery()
    try:
        account, sites = discover(spec, tokens, scopes=tokens.scopes or tuple(request.scopes))
    except DiscoveryError as error:
        if error.failure == "profile_refused":
            config.note_problem("profile_refused")
        raise ConnectFailedError(error.failure) from None
    if config.problem_code == "profile_refused":
        config.note_recovery()
    if spec.sites is not None and not sites:
        raise ConnectFailedError("no_site")
    return Exchanged(
        tokens=tokens, account=account, sites=sites, requested=tuple(request.scopes), received_at=sent_at
    )


def _exchange_failed(config: ProviderConfig, failure: Failure) -> ConnectFailedError:
    match failure.outcome:
        case Outcome.CLIENT_BAD:
            config.note_problem("client_refused")
            return ConnectFailedError("wrong_client_secret")
        case Outcome.GRANT_DEAD:
            return ConnectFailedError("code_refused")
        case _:
            return ConnectFailedError("provider_down")


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
            code = "link_used" if from_status == SessionStatus.OPEN else "already_chosen"
            raise ConnectFailedError(code, session=session)
        session.grant = store_grant(session, exchanged, chosen=chosen, actor=actor)
        session.status, session.exchanged, session.failure = SessionStatus.DONE, None, ""
        session.finished_at = database_now()
        session.save(
            update_fields=["status", "browser_digest", "grant", "exchanged", "failure", "finished_at"]
        )
    return session
