"""What a grant's records mean, in a word for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from providers.models import STOPPING_PROBLEMS
from tokens.models.grants import GrantStatus

if TYPE_CHECKING:
    import datetime as dt

    from tokens.models import Grant

Tone = Literal["good", "warn", "bad", "quiet"]


@dataclass(frozen=True)
class GrantState:
    """A word, its tone, and a sentence that says what it means here."""

    tone: Tone
    word: str
    detail: str = ""


def describe(grant: Grant, now: dt.datetime) -> GrantState:
    """Tell how a grant stands at `now` (the database's clock). Needs its configuration and application loaded."""
    match grant.status:
        case GrantStatus.REVOKED:
            return GrantState("quiet", "Revoked", "Its tokens are erased.")
        case GrantStatus.PENDING:
            return GrantState(
                "warn", "Waiting for confirmation", "Nothing is handed out until the account is confirmed."
            )
        case GrantStatus.NEEDS_RECONNECT:
            return GrantState("bad", "Needs reconnect", grant.cause)
    if not grant.provider_config.is_working:
        return GrantState("quiet", "Paused", "The provider is disabled, or the application archived.")
    if grant.fail_outcome == "unreadable":
        return GrantState(
            "bad", "Unreadable", "Its tokens cannot be decrypted. Connecting again replaces them."
        )
    return _describe_active(grant, now)


def _describe_active(grant: Grant, now: dt.datetime) -> GrantState:
    is_due = grant.refresh_due_at is not None and grant.refresh_due_at <= now
    is_expired = grant.access_expires_at is not None and grant.access_expires_at <= now
    if grant.claim_until is not None and grant.claim_until > now:
        return GrantState("good" if not is_expired else "warn", "Refreshing", "A refresh is under way.")
    if grant.fail_outcome:
        return GrantState("bad" if is_expired else "warn", "Retrying", grant.cause)
    if grant.provider_config.problem_code in STOPPING_PROBLEMS and (is_expired or is_due):
        return GrantState("bad" if is_expired else "warn", "Waiting", grant.provider_config.problem_message)
    if is_expired and not is_due:
        detail = "The access token has run out. When it is asked for, it is refreshed first."
        return GrantState("quiet", "Resting", detail)
    if is_expired:
        return GrantState("warn", "Due", "The access token has run out; the next refresh replaces it.")
    if is_due:
        return GrantState("good", "Due", "The next refresh is about to start.")
    return GrantState("good", "Fresh", "")
