"""Apply what was not a token: release the claim, plan the next try, and end a grant only when that is certain."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from portal.audit import SYSTEM, record
from portal.models import Event
from providers.models import STOPPING_PROBLEMS
from providers.spec import Outcome
from tokens import schedule
from tokens.guard import held_by, is_confirmed
from tokens.models import Grant, GrantStatus
from tokens.results import FENCED, OVERTAKEN, REVOKED, UNREADABLE, Committed

if TYPE_CHECKING:
    import datetime as dt

    from providers.models import ProviderConfig
    from providers.oauth import Failure
    from providers.spec import RefreshPolicy
    from tokens.claim import Claim
    from tokens.results import Result

LOST_ANSWER = (
    "an earlier answer was lost on the way, and the provider no longer accepts the token it replaced"
)


def apply_failure(result: Result, failure: Failure, now: dt.datetime) -> Committed:
    claim, policy = result.claim, result.config.spec.refresh
    grant = Grant.objects.select_for_update().filter(pk=claim.grant_id).first()
    committed = Committed(failure.outcome, failure.cause, failure.status, failure.error)
    if grant is None:
        return Committed(FENCED, REVOKED, failure.status, failure.error)
    if grant.gen != claim.gen:
        return Committed(FENCED, OVERTAKEN, failure.status, failure.error)
    if grant.claim_epoch != claim.epoch or grant.status == GrantStatus.REVOKED:
        # A newer claim on the same generation: its verdict counts, not this one.
        return committed
    grant.claim_owner = grant.claim_until = None
    if failure.outcome is Outcome.GRANT_DEAD:
        return _apply_dead(result, grant, failure, now)
    tries = grant.fail_count if grant.fail_outcome == failure.outcome else 0
    pause = _pause(policy, grant, failure, tries=tries, now=now)
    if failure.outcome is not Outcome.AMBIGUOUS:
        _spent_nothing(claim, grant)
        if policy.is_strict:
            # The claim has put it off until the access token is used up.
            grant.refresh_due_at, grant.next_attempt_at = now, None
    if grant.status != GrantStatus.ACTIVE:
        # Somebody tried one that had ended: why it ended stays, and nothing waits for another try.
        grant.inflight_gen = grant.inflight_since = None
    elif pause is not None:
        # Nor is it the grant's doing that a provider can't be reached which is known to be down.
        is_probe = failure.outcome is Outcome.NOT_SENT and claim.config_problem in STOPPING_PROBLEMS
        grant.fail_count = tries if is_probe else tries + 1
        grant.fail_outcome = failure.outcome
        grant.cause = _words(failure, result.config)
        grant.refresh_due_at = grant.next_attempt_at = now + pause
    _save_failure(grant)
    return committed


def _pause(
    policy: RefreshPolicy, grant: Grant, failure: Failure, *, tries: int, now: dt.datetime
) -> timedelta | None:
    """Return how long a grant waits for its next try; None if this was not about the grant at all."""
    match failure.outcome:
        case Outcome.CLIENT_BAD:
            # The configuration's fault: the breaker opens, and the grant stays due as if nobody had asked.
            return None
        case Outcome.AMBIGUOUS:
            # The marker stays: this generation may have been spent.
            return schedule.pause_after_ambiguous(
                policy,
                tries=tries,
                inflight_for=now - (grant.inflight_since or now),
                access_left=(grant.access_expires_at or now) - now,
            )
        case Outcome.THROTTLED:
            pause = max(failure.retry_after or schedule.THROTTLED_PAUSE, timedelta(seconds=1))
            return pause + schedule.jitter(grant.pk, timedelta(seconds=5))
        case _:
            return schedule.pause_after_unreachable(tries) + schedule.jitter(grant.pk, timedelta(seconds=3))


def _spent_nothing(claim: Claim, grant: Grant) -> None:
    """Leave on record only what an earlier attempt may have spent."""
    grant.inflight_since = claim.inflight_since
    grant.inflight_gen = grant.gen if claim.inflight_since else None


def _apply_dead(result: Result, grant: Grant, failure: Failure, now: dt.datetime) -> Committed:
    """End a grant, but only after the verdict was confirmed once: a sibling's late success may still land."""
    claim = result.claim
    cause = LOST_ANSWER if claim.inflight_since else failure.cause
    # Without a refresh token nobody was asked, so there is nothing to confirm, and no flood of refusals.
    is_certain = claim.refresh_token is None or is_confirmed(result)
    held = held_by(result.config, now) if is_confirmed(result) else ""
    grant.fail_count += 1
    grant.fail_outcome = Outcome.GRANT_DEAD
    grant.cause = cause[:200]
    if held:
        grant.cause = "many connections were refused at once; it is tried again before it ends"
    if grant.status == GrantStatus.ACTIVE and (held or not is_certain):
        pause = (
            schedule.pause_while_held(grant.pk, grant.fail_count)
            if held
            else result.config.spec.read_timeout + timedelta(seconds=1)
        )
        _spent_nothing(claim, grant)
        grant.refresh_due_at = grant.next_attempt_at = now + pause
    else:
        was_active = grant.status == GrantStatus.ACTIVE
        grant.status = GrantStatus.NEEDS_RECONNECT
        grant.inflight_gen = grant.inflight_since = None
        grant.refresh_due_at = grant.next_attempt_at = None
        if was_active:
            grant.ended_at = now
            record(
                Event.GRANT_NEEDS_RECONNECT,
                actor=SYSTEM,
                application=result.config.application,
                subject=grant,
                cause=grant.cause,
            )
    _save_failure(grant)
    return Committed(Outcome.GRANT_DEAD, grant.cause, failure.status, failure.error, held)


def apply_unreadable(result: Result, now: dt.datetime) -> Committed:
    """Set one unreadable grant aside (C8): nothing was sent, the others go on."""
    grant = Grant.objects.select_for_update().filter(pk=result.claim.grant_id).first()
    if grant is None:
        return Committed(FENCED, REVOKED)
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
            "ended_at",
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
        case Outcome.THROTTLED:
            words = f"{name} asked us to slow down"
        case Outcome.NOT_SENT:
            words = f"{name} could not be reached ({failure.cause})"
        case _:
            words = f"{name} gave no usable answer ({failure.cause})"
    return words[:200]
