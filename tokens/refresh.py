"""Refresh one grant, now, in the caller's thread: for people who press a button and programs that read a token.

The same claim and the same commit as the engine's (tokens/engine.py); only the sender differs.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import DateTimeField, Func

from portal.encryption import UnreadableError, key_ring
from portal.instance import is_foreign
from providers import http, oauth
from providers.catalog_loader import catalog
from providers.models import ProviderConfig
from providers.oauth import Failure, OutgoingRequest
from providers.spec import Outcome
from tokens.claim import Claim, claim_one
from tokens.clock import database_now
from tokens.commit import commit_held
from tokens.errors import (
    ClientRefusedError,
    ForeignDatabaseError,
    NeedsReconnectError,
    NotInCatalogError,
    NotRefreshableError,
    ProviderDisabledError,
    ProviderUnavailableError,
    RefreshInProgressError,
    TokenError,
)
from tokens.gate import is_stopped
from tokens.models import Grant, GrantStatus, Trigger
from tokens.results import FENCED, UNREADABLE, Committed, Result, token_place

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable

POLL = 0.1
# How long a caller waits for somebody else's refresh while the old token is still good.
PATIENCE = timedelta(seconds=2)
# A token that is younger than this is not replaced because a call with it was refused.
REFUSED_TOO_SOON = timedelta(minutes=5)
# How long an answer is held, and its commit tried again, when the database is gone. Somebody is waiting.
HOLD = timedelta(seconds=30)


def prepare(claim: Claim, config: ProviderConfig) -> OutgoingRequest | Result:
    """Build the request that spends a claim, or the result that says why nothing is sent."""
    if claim.refresh_token is None:
        return Result(
            claim,
            config,
            Failure(Outcome.GRANT_DEAD, cause="it has no refresh token, and its access has run out"),
        )
    place = token_place("refresh_token", grant_id=claim.grant_id, application_id=claim.application_id)
    try:
        token = key_ring().unseal(claim.refresh_token, place)
    except UnreadableError:
        return Result(claim, config, UNREADABLE)
    try:
        return oauth.refresh_request(config.spec, config.credentials(), refresh_token=token)
    except UnreadableError:
        failure = Failure(Outcome.CLIENT_BAD, cause="the stored client secret cannot be decrypted")
        return Result(claim, config, failure)


def too_late(claim: Claim) -> bool:
    """Tell whether a claim is too old to send with: a stopped process may have slept through it."""
    return time.monotonic() > claim.send_before


def refresh_now(grant: Grant, *, trigger: Trigger, is_forced: bool = True) -> Committed:
    """Refresh one grant and return what it came to, committed.

    `is_forced` is for people: it passes over the pauses after a failure, and tries what needs reconnecting. Raises
    NotRefreshableError, ProviderDisabledError, ProviderUnavailableError or RefreshInProgressError where nothing was
    tried.
    """
    claim = claim_one(grant, trigger=trigger, is_forced=is_forced)
    if claim is None:
        error = _why_not(grant)
        is_paused = isinstance(error, RefreshInProgressError) and _why_waiting_is_no_use(
            grant, database_now()
        )
        raise is_paused() if is_paused else error
    return _carry_out(claim)


def ensure_fresh(grant: Grant, *, min_ttl: timedelta, budget: timedelta = timedelta(seconds=10)) -> Grant:
    """Return the grant, read anew, with an access token good for at least min_ttl.

    One caller refreshes, the others wait for its generation, not for long if the old token is still good; while it is
    good it is served whatever the provider does. A token that came while we were here is served however short it lives: a newer one would live no
    longer. Raises NeedsReconnectError, ProviderDisabledError, ProviderUnavailableError,
    ClientRefusedError, NotRefreshableError or RefreshInProgressError.
    """
    started = time.monotonic()
    problem: Callable[[], Exception] = RefreshInProgressError
    first_gen: int | None = None
    while True:
        grant, now = _read(grant)
        if grant.status != GrantStatus.ACTIVE or not grant.provider_config.is_working:
            raise _why_not(grant)
        if first_gen is None:
            first_gen = grant.gen
        is_new = grant.gen != first_gen
        if is_new or grant.access_expires_at is None or grant.access_expires_at - now >= min_ttl:
            return grant
        # While somebody else refreshes it there is nothing to claim, and one statement is enough to see how it goes.
        is_claimed = grant.claim_until is not None and grant.claim_until > now
        claim = None if is_claimed else claim_one(grant, trigger=Trigger.READER, gen=grant.gen)
        if claim is not None:
            committed = _carry_out(claim)
            if committed.outcome in (Outcome.OK, FENCED):
                continue
            problem = (
                ClientRefusedError if committed.outcome == Outcome.CLIENT_BAD else ProviderUnavailableError
            )
        elif not is_claimed:
            problem = _why_waiting_is_no_use(grant, now) or problem
        patience = min(budget, PATIENCE) if grant.is_fresh(now) else budget
        if (
            time.monotonic() >= started + patience.total_seconds()
            or claim is not None
            or problem is not RefreshInProgressError
        ):
            return _still_good_or_raise(grant, problem)
        time.sleep(POLL)


def _read(grant: Grant) -> tuple[Grant, dt.datetime]:
    """Read a grant anew, with the database's time, in one statement."""
    clock = Func(function="clock_timestamp", output_field=DateTimeField())
    grants = Grant.objects.select_related("provider_config__application").annotate(read_at=clock)
    found = grants.get(pk=grant.pk)
    return found, found.read_at  # type: ignore[attr-defined]


def refresh_refused(grant: Grant, *, gen: int, budget: timedelta = timedelta(seconds=10)) -> bool:
    """Refresh after the provider refused a generation's token, and tell whether a newer one is stored now (E9).

    Only if it is still the stored one, and not when that came a moment ago: an endpoint that refuses every token must
    not spend a rotation at each call.
    """
    deadline = time.monotonic() + budget.total_seconds()
    while True:
        grant, now = _read(grant)
        if grant.gen != gen or grant.status != GrantStatus.ACTIVE:
            return grant.status == GrantStatus.ACTIVE
        is_over = grant.access_expires_at is not None and grant.access_expires_at <= now
        if not is_over and grant.refreshed_at is not None and now - grant.refreshed_at < REFUSED_TOO_SOON:
            return False
        claim = claim_one(grant, trigger=Trigger.READER, gen=gen)
        if claim is not None:
            return _carry_out(claim).outcome in (Outcome.OK, FENCED)
        if _why_waiting_is_no_use(grant, now) or time.monotonic() >= deadline:
            return False
        time.sleep(POLL)


def _why_waiting_is_no_use(grant: Grant, now: dt.datetime) -> type[TokenError] | None:
    """Say why a reader got no claim, if it is not that somebody else refreshes just now."""
    if is_foreign():
        return ForeignDatabaseError
    config = grant.provider_config
    if config.provider_id not in catalog():
        return NotInCatalogError
    if config.problem_code in ("client_refused", "secret_unreadable"):
        return ClientRefusedError
    if is_stopped(config):
        return ProviderUnavailableError
    pauses = (grant.next_attempt_at, grant.provider_config.paused_until)
    return ProviderUnavailableError if any(until and until > now for until in pauses) else None


def _still_good_or_raise(grant: Grant, problem: Callable[[], Exception]) -> Grant:
    """Serve a token that is still good, though for less long than was asked; else say what is wrong."""
    grant = Grant.objects.select_related("provider_config__application").get(pk=grant.pk)
    if grant.is_fresh(database_now()):
        return grant
    raise NeedsReconnectError(grant) if grant.status == GrantStatus.NEEDS_RECONNECT else problem()


def _carry_out(claim: Claim) -> Committed:
    config = ProviderConfig.objects.select_related("application").get(pk=claim.provider_config_id)
    request = prepare(claim, config)
    if isinstance(request, Result):
        result = request
    elif too_late(claim):
        result = Result(
            claim, config, Failure(Outcome.NOT_SENT, cause="the claim ran out before it was used")
        )
    else:
        sent = time.monotonic()
        answer = http.send_blocking(request)
        came_to = oauth.read_token_answer(config.spec, answer, grant_type="refresh_token")
        result = Result(claim, config, came_to, sent, time.monotonic())
    return commit_held([result], hold=HOLD)[claim.grant_id]


def _why_not(grant: Grant) -> Exception:
    grant = Grant.objects.select_related("provider_config__application").get(pk=grant.pk)
    if is_foreign():
        return ForeignDatabaseError()
    if not grant.provider_config.is_working:
        return ProviderDisabledError()
    if grant.provider_config.provider_id not in catalog():
        return NotInCatalogError()
    if grant.status == GrantStatus.NEEDS_RECONNECT:
        return NeedsReconnectError(grant)
    if grant.status != GrantStatus.ACTIVE:
        return NotRefreshableError(f"This connection is {grant.get_status_display().lower()}.")
    return RefreshInProgressError()
