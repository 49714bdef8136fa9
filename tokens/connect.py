"""Connect: from a link to a grant.

A session is one link. Each press of its button makes an authorization request, which lives ten minutes and is spent
by the first callback that names its state from the same browser. What the callback brings is held against what the
request wrote down. The order is: browser, state, `iss`, error, exchange, account and sites, choice, grant.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.urls import reverse

from portal.audit import Actor, record
from portal.encryption import UnreadableError, seal, unseal
from portal.models import Event
from portal.models.applications import digest
from providers import http, oauth
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
    origin = f"{parts.scheme}://{parts.hostname}" + (f":{port}" if port else "")
    return url.startswith(f"{parts.scheme}://{parts.netloc}") and origin in application.return_origins


def find_session(token: str) -> ConnectSession | None:
    """Return the session of a link token, or None."""
    return _sessions().filter(link_digest=digest(token)).first()


def session_in_browser(session_id: uuid.UUID, *, browser: str) -> ConnectSession | None:
    """Return a session that this browser has started, or None: others can't look at its result (A3)."""
    if not browser:
        return None
    return _sessions().filter(pk=session_id, browser_digest=digest(browser)).first()


def _sessions() -> QuerySet[ConnectSession]:
    return ConnectSession.objects.select_related(
        "application", "provider_config__application", "reconnect_grant", "grant"
    )


def new_browser_secret() -> str:
    """Return a value for the cookie that binds a session to the browser that started it."""
    return secrets.token_urlsafe(32)


def require_usable(session: ConnectSession, *, user_id: int | None = None) -> None:
    """Raise ConnectFailedError unless the session's button may be pressed just now."""
    if session.status in (SessionStatus.DONE, SessionStatus.CHOOSING):
        raise ConnectFailedError("link_used")
    if session.is_expired(database_now()):
        raise ConnectFailedError("link_expired")
    if not session.provider_config.is_working:
        raise ConnectFailedError("provider_disabled")
    if session.confirmation == Confirmation.LOGIN and session.created_by_id != user_id:
        raise ConnectFailedError("other_login")


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
        raise ConnectFailedError("unreadable_secret") from None
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
        scopes=session.scopes,
        expires_at=Now() + STATE_LIFETIME,
    )
    seal(request, "code_verifier", verifier)
    with transaction.atomic():
        request.save(force_insert=True)
        ConnectSession.objects.filter(pk=session.pk).update(browser_digest=digest(browser), failure="")
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
    once the browser has been recognised.
    """
    request = _spend_state(callback)
    session = request.session
    try:
        exchanged = _exchange(session, request, callback)
    except ConnectFailedError as failure:
        failure.session = session
        _note_failure(session, failure, actor)
        raise
    if len(exchanged.sites) > 1:
        seal(session, "exchanged", exchanged.dumps())
        session.status = SessionStatus.CHOOSING
        session.exchanged_at = exchanged.received_at
        session.save(update_fields=["exchanged", "status", "exchanged_at"])
        return session
    return _finish(session, exchanged, chosen=[site.cloud_id for site in exchanged.sites], actor=actor)


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
    if session.status != SessionStatus.CHOOSING or exchanged is None or session.is_expired(database_now()):
        raise ConnectFailedError(
            "link_used" if session.status == SessionStatus.DONE else "link_expired", session=session
        )
    if not session.provider_config.is_working:
        raise ConnectFailedError("provider_disabled", session=session)
    if not chosen or not set(chosen) <= {site.cloud_id for site in exchanged.sites}:
        raise BadSessionRequestError("Choose at least one of the sites.")
    return _finish(session, exchanged, chosen=chosen, actor=actor)


def _spend_state(callback: Callback) -> AuthorizationRequest:
    """Find the authorization request of a callback and spend it, from the right browser only."""
    request = (
        AuthorizationRequest.objects.select_related(
            "session__application", "session__provider_config__application"
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
        raise ConnectFailedError(
            "link_used" if request.spent_at else "state_expired", session=request.session
        )
    return request


def _check_answer(session: ConnectSession, request: AuthorizationRequest, callback: Callback) -> str:
    """Hold the callback against what its request wrote down, and return the code. Raises ConnectFailedError."""
    config, spec, params = session.provider_config, session.provider_config.spec, callback.params
    # Compared as plain strings (RFC 9207 section 2.4).
    if params.get("iss", request.issuer if spec.iss != "required" else None) != request.issuer:
        raise ConnectFailedError("wrong_issuer")
    require_usable(session, user_id=callback.user_id)
    if error := params.get("error"):
        raise ConnectFailedError(spec.callback_errors.get(error, "refused"))
    # The configuration may have been edited meanwhile; the code belongs to what was asked (A8).
    asked = (request.client_id, request.token_url, request.redirect_uri)
    if asked != (config.client_id, spec.token_url, config.redirect_uri):
        raise ConnectFailedError("config_changed")
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


def _finish(
    session: ConnectSession, exchanged: Exchanged, *, chosen: Collection[str], actor: Actor
) -> ConnectSession:
    with transaction.atomic():
        locked = ConnectSession.objects.select_for_update().get(pk=session.pk)
        if locked.status == SessionStatus.DONE:
            raise ConnectFailedError("link_used", session=session)
        grant = store_grant(session, exchanged, chosen=chosen, actor=actor)
        session.status, session.grant, session.exchanged, session.failure = (
            SessionStatus.DONE,
            grant,
            None,
            "",
        )
        session.finished_at = database_now()
        session.save(update_fields=["status", "grant", "exchanged", "failure", "finished_at"])
    return session
