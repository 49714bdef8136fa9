"""Hold what came back with the browser against what was asked, and trade the code for tokens."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from portal.encryption import UnreadableError, unseal
from providers import http, oauth
from providers.models import STOPPING_PROBLEMS
from providers.oauth import Failure, TokenSet
from providers.spec import Outcome
from tokens.clock import database_now
from tokens.discover import DiscoveryError, discover
from tokens.exchanged import Exchanged
from tokens.failures import ConnectFailedError
from tokens.models.connect import SessionStatus
from tokens.sessions import require_working, scopes_to_ask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from providers.models import ProviderConfig
    from tokens.models import AuthorizationRequest, ConnectSession

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Callback:
    """What came back with the browser. `params` holds each parameter once."""

    slug: str
    provider_id: str
    params: Mapping[str, str]
    browser: str
    user_id: int | None


def _check_answer(session: ConnectSession, request: AuthorizationRequest, callback: Callback) -> str:
    """Hold the callback against what its request wrote down, and return the code. Raises ConnectFailedError."""
    if session.status != SessionStatus.OPEN:
        raise ConnectFailedError("link_used")
    require_working(session)
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


def exchange(session: ConnectSession, request: AuthorizationRequest, callback: Callback) -> Exchanged:
    """Trade the code for tokens, and find out whose they are and what they reach. Raises ConnectFailedError."""
    code = _check_answer(session, request, callback)
    config, spec = session.provider_config, session.provider_config.spec
    try:
        verifier = unseal(request, "code_verifier")
    except UnreadableError:
        verifier = None
    if not verifier:
        raise ConnectFailedError("config_changed")
    try:
        credentials = config.credentials()
    except UnreadableError:
        config.note_problem("secret_unreadable")
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
    if config.problem_code in STOPPING_PROBLEMS:
        config.note_recovery()
    try:
        account, sites = discover(spec, tokens, scopes=tokens.scopes or tuple(request.scopes))
    except DiscoveryError as error:
        if error.failure == "profile_refused":
            config.note_problem("profile_refused")
        raise ConnectFailedError(error.failure) from None
    if config.problem_code == "profile_refused":
        config.note_recovery("profile_refused")
    if spec.sites is not None and not sites:
        raise ConnectFailedError("no_site")
    return Exchanged(
        tokens=tokens, account=account, sites=sites, requested=tuple(request.scopes), received_at=sent_at
    )


def _exchange_failed(config: ProviderConfig, failure: Failure) -> ConnectFailedError:
    logger.warning(
        "Exchanging a code at %s came to %s: %s (status %s)",
        config.provider_id,
        failure.outcome,
        failure.cause,
        failure.status,
    )
    match failure.outcome:
        case Outcome.CLIENT_BAD:
            config.note_problem("client_refused")
            return ConnectFailedError("wrong_client_secret")
        case Outcome.GRANT_DEAD:
            return ConnectFailedError("code_refused")
        case Outcome.AMBIGUOUS if failure.status is not None and failure.status < 500:
            # It answers, so it is not down: more likely its catalog file is wrong.
            return ConnectFailedError("unreadable_answer")
        case _:
            return ConnectFailedError("provider_down")
