"""Commit what refreshes came to: each only where the generation is still the one that was spent.

No caller sees a token before this commit. What the provider did is applied by generation, not by claim: an answer
that arrives after its claim ran out is as good as any, and one for a generation that has moved on changes nothing.
"""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from django.db.models import F

from portal.audit import SYSTEM, record
from portal.encryption import Place, key_ring
from portal.models import Event
from providers.oauth import Failure, TokenSet
from providers.spec import Outcome
from tokens import schedule
from tokens.clock import database_now
from tokens.models import Grant, GrantStatus, GrantTokens, RefreshAttempt

if TYPE_CHECKING:
    import uuid

    from providers.models import ProviderConfig
    from tokens.claim import Claim

TOKENS_TABLE = GrantTokens._meta.db_table  # noqa: SLF001 - Django documents _meta as public.
UNREADABLE = "unreadable"
FENCED = "fenced"
LOST_ANSWER = (
    "an earlier answer was lost on the way, and the provider no longer accepts the token it replaced"
)


@dataclass(frozen=True)
class Result:
    """What one claim came to. `sent` and `answered` are monotonic seconds of this process."""

    claim: Claim
    config: ProviderConfig
    came_to: TokenSet | Failure | str  # str: UNREADABLE, nothing was sent.
    sent: float | None = None
    answered: float | None = None


@dataclass(frozen=True)
class Committed:
    """What the commit made of a result."""

    outcome: str
    cause: str = ""
    http_status: int | None = None
    error_code: str = ""


def token_place(column: str, *, grant_id: uuid.UUID, application_id: uuid.UUID) -> Place:
    """Name the place of a grant's sealed token, without loading the row."""
    return Place(table=TOKENS_TABLE, column=column, row=str(grant_id), tenant=str(application_id))


def commit(results: list[Result]) -> dict[uuid.UUID, Committed]:
    """Apply results in one short transaction, and return what became of each grant's."""
    done: dict[uuid.UUID, Committed] = {}
    # One order for everybody, so that two workers' groups can't wait for each other.
    ordered = sorted(results, key=lambda result: result.claim.grant_id)
    with transaction.atomic(durable=True):
        counts: Counter[tuple[uuid.UUID, uuid.UUID, str]] = Counter()
        for result in ordered:
            now = database_now()
            committed = _apply(result, now)
            _close_attempt(result, committed, now)
            done[result.claim.grant_id] = committed
            counts[(result.config.pk, result.claim.application_id, committed.outcome)] += 1
        _count(counts)
        _note_config_health(ordered, done)
    return done


def _apply(result: Result, now: dt.datetime) -> Committed:
    match result.came_to:
        case TokenSet() as tokens:
            return _apply_tokens(result, tokens, now)
        case Failure() as failure:
            return _apply_failure(result, failure, now)
        case _:
            return _apply_unreadable(result, now)


def _apply_tokens(result: Result, tokens: TokenSet, now: dt.datetime) -> Committed:
    claim, spec = result.claim, result.config.spec
    # The life of a token begins when the provider made it, which was after we sent, at the earliest.
    issued = now - timedelta(seconds=time.monotonic() - result.sent) if result.sent else now
    lifetime = schedule.access_lifetime(spec.refresh, tokens)
    grant = Grant.objects.select_for_update().get(pk=claim.grant_id)
    if grant.gen != claim.gen or grant.status == GrantStatus.REVOKED:
        return Committed(FENCED, "another refresh was accepted first")
    was_ended = grant.status == GrantStatus.NEEDS_RECONNECT
    values: dict[str, Any] = {
        "gen": F("gen") + 1,
        "status": GrantStatus.ACTIVE if was_ended else grant.status,
        "access_expires_at": issued + lifetime if lifetime else None,
        "refreshed_at": now,
        "refresh_due_at": issued + schedule.due_after(spec.refresh, grant.pk, lifetime) if lifetime else None,
        "idle_deadline": now + spec.refresh.idle_limit if spec.refresh.idle_limit else None,
        **_CLEARED,
    }
    if tokens.scopes is not None:
        values["granted_scopes"] = list(tokens.scopes)
    # The generation decides, whoever holds the claim by now.
    if Grant.objects.filter(pk=grant.pk, gen=claim.gen).update(**values) != 1:
        return Committed(FENCED, "another refresh was accepted first")
    _store_tokens(claim, tokens)
    if was_ended:
        record(Event.GRANT_RECOVERED, actor=SYSTEM, application=result.config.application, subject=grant)
    cause = "recovered a lost answer inside the leeway" if claim.inflight_since else ""
    return Committed(Outcome.OK, cause, 200)


_CLEARED = {
    "claim_owner": None,
    "claim_until": None,
    "inflight_gen": None,
    "inflight_since": None,
    "fail_count": 0,
    "fail_outcome": "",
    "cause": "",
    "next_attempt_at": None,
}


def _store_tokens(claim: Claim, tokens: TokenSet) -> None:
    """Seal and store new tokens; a refresh answer without a refresh token keeps the old one (RFC 6749 section 6)."""

    def sealed(column: str, text: str) -> bytes:
        place = token_place(column, grant_id=claim.grant_id, application_id=claim.application_id)
        return key_ring().seal(text, place)

    values = {"access_token": sealed("access_token", tokens.access_token)}
    if tokens.refresh_token:
        values["refresh_token"] = sealed("refresh_token", tokens.refresh_token)
    GrantTokens.objects.filter(grant_id=claim.grant_id).update(**values)


def _apply_failure(result: Result, failure: Failure, now: dt.datetime) -> Committed:
    claim, policy = result.claim, result.config.spec.refresh
    grant = Grant.objects.select_for_update().get(pk=claim.grant_id)
    committed = Committed(failure.outcome, failure.cause, failure.status, failure.error)
    if grant.gen != claim.gen:
        return Committed(FENCED, "another refresh was accepted first", failure.status, failure.error)
    if grant.claim_epoch != claim.epoch or grant.status == GrantStatus.REVOKED:
        # A newer claim on the same generation: its verdict counts, not this one.
        return committed
    grant.claim_owner = grant.claim_until = None
    tries = grant.fail_count if grant.fail_outcome == failure.outcome else 0
    match failure.outcome:
        case Outcome.GRANT_DEAD:
            return _apply_dead(result, grant, failure, now)
        case Outcome.AMBIGUOUS:
            # The marker stays: this generation may have been spent.
            pause = schedule.pause_after_ambiguous(
                policy, tries=tries, inflight_for=claim.inflight_for, access_left=claim.access_left
            )
        case Outcome.THROTTLED:
            pause = max(failure.retry_after or schedule.THROTTLED_PAUSE, timedelta(seconds=1))
            pause += schedule.jitter(grant.pk, timedelta(seconds=5))
        case Outcome.CLIENT_BAD:
            pause = schedule.CLIENT_BAD_PAUSE + schedule.jitter(grant.pk, timedelta(seconds=10))
        case _:
            pause = schedule.pause_after_unreachable(tries) + schedule.jitter(grant.pk, timedelta(seconds=3))
    if failure.outcome is not Outcome.AMBIGUOUS:
        # This attempt spent nothing; what an earlier one may have spent is still on record.
        grant.inflight_since = claim.inflight_since
        grant.inflight_gen = grant.gen if claim.inflight_since else None
    grant.fail_count = tries + 1
    grant.fail_outcome = failure.outcome
    grant.cause = _words(failure, result.config)
    if grant.status == GrantStatus.ACTIVE:
        grant.refresh_due_at = grant.next_attempt_at = now + pause
    _save_failure(grant)
    return committed


def _apply_dead(result: Result, grant: Grant, failure: Failure, now: dt.datetime) -> Committed:
    """End a grant, but only after the verdict was confirmed once: a sibling's late success may still land."""
    claim = result.claim
    cause = LOST_ANSWER if claim.inflight_since else failure.cause
    is_confirmed = claim.fail_outcome == Outcome.GRANT_DEAD
    grant.fail_count += 1
    grant.fail_outcome = Outcome.GRANT_DEAD
    grant.cause = cause[:200]
    if not is_confirmed and grant.status == GrantStatus.ACTIVE:
        pause = result.config.spec.read_timeout + timedelta(seconds=1)
        grant.inflight_since = claim.inflight_since
        grant.inflight_gen = grant.gen if claim.inflight_since else None
        grant.refresh_due_at = grant.next_attempt_at = now + pause
    else:
        was_active = grant.status == GrantStatus.ACTIVE
        grant.status = GrantStatus.NEEDS_RECONNECT
        grant.inflight_gen = grant.inflight_since = None
        grant.refresh_due_at = grant.next_attempt_at = None
        if was_active:
            record(
                Event.GRANT_NEEDS_RECONNECT,
                actor=SYSTEM,
                application=result.config.application,
                subject=grant,
                cause=grant.cause,
            )
    _save_failure(grant)
    return Committed(Outcome.GRANT_DEAD, grant.cause, failure.status, failure.error)


def _apply_unreadable(result: Result, now: dt.datetime) -> Committed:
    """Set one unreadable grant aside (C8): nothing was sent, the others go on."""
    grant = Grant.objects.select_for_update().get(pk=result.claim.grant_id)
    if grant.gen == result.claim.gen and grant.claim_epoch == result.claim.epoch:
        grant.claim_owner = grant.claim_until = grant.inflight_gen = grant.inflight_since = None
        grant.fail_count += 1
        grant.fail_outcome = UNREADABLE
        grant.cause = "its tokens cannot be decrypted"
        grant.refresh_due_at = grant.next_attempt_at = now + timedelta(hours=1)
        _save_failure(grant)
    return Committed(UNREADABLE, "its tokens cannot be decrypted")


def _save_failure(grant: Grant) -> None:
    grant.save(
        update_fields=[
            "status",
            "claim_owner",
            "claim_until",
            "inflight_gen",
            "inflight_since",
            "fail_count",
            "fail_outcome",
            "cause",
            "refresh_due_at",
            "next_attempt_at",
        ]
    )


def _words(failure: Failure, config: ProviderConfig) -> str:
    name = config.provider_name
    match failure.outcome:
        case Outcome.CLIENT_BAD:
            words = f"{name} refuses the client ID or secret"
        case Outcome.THROTTLED:
            words = f"{name} asked us to slow down"
        case Outcome.NOT_SENT:
            words = f"{name} could not be reached ({failure.cause})"
        case _:
            words = f"{name} gave no usable answer ({failure.cause})"
    return words[:200]


def _close_attempt(result: Result, committed: Committed, now: dt.datetime) -> None:
    moment = time.monotonic()

    def on_database_clock(monotonic: float | None) -> dt.datetime | None:
        return None if monotonic is None else now - timedelta(seconds=moment - monotonic)

    RefreshAttempt.objects.filter(grant_id=result.claim.grant_id, epoch=result.claim.epoch).update(
        sent_at=on_database_clock(result.sent),
        answered_at=on_database_clock(result.answered),
        committed_at=now,
        outcome=committed.outcome,
        http_status=committed.http_status,
        error_code=committed.error_code[:64],
        cause=committed.cause[:200],
    )


def _count(counts: Counter[tuple[uuid.UUID, uuid.UUID, str]]) -> None:
    """Add to the five-minute counts that charts read."""
    with connection.cursor() as cursor:
        for (config_id, application_id, outcome), number in sorted(counts.items(), key=str):
            cursor.execute(
                """
                INSERT INTO tokens_refreshcount (provider_config_id, application_id, starts_at, outcome, count)
                VALUES (%s, %s, date_bin('5 minutes', now(), 'epoch'), %s, %s)
                ON CONFLICT (provider_config_id, starts_at, outcome)
                DO UPDATE SET count = tokens_refreshcount.count + excluded.count
                """,
                [config_id, application_id, outcome, number],
            )


def _note_config_health(results: list[Result], done: dict[uuid.UUID, Committed]) -> None:
    """Tell the admin once when a provider starts to refuse our credentials, and once when it stops (B9)."""
    for config_id in sorted({result.config.pk for result in results}):
        mine = [result for result in results if result.config.pk == config_id]
        outcomes = {done[result.claim.grant_id].outcome for result in mine}
        if Outcome.OK in outcomes:
            if any(result.claim.config_problem for result in mine):
                mine[0].config.note_recovery()
        elif Outcome.CLIENT_BAD in outcomes:
            mine[0].config.note_problem("client_refused")
