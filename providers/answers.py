"""Read what a token endpoint answered, and classify it. Never raises, whatever the provider sends (B7)."""

from __future__ import annotations

import functools
import json
import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeGuard

from providers.messages import Failure, NoAnswer, TokenSet
from providers.spec import Outcome

if TYPE_CHECKING:
    from providers.messages import Answer
    from providers.spec import ProviderSpec

MAX_LIFETIME = timedelta(days=3650)
MAX_RETRY_AFTER = timedelta(hours=1)
_ERROR_CODE = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]{1,64}")
# RFC 6749 appendix A.4. The length is what we store.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}")
# RFC 6749 section 5.2: our client, or what we ask for, is refused.
_CLIENT_ERRORS = frozenset(
    {"invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_request"}
)


def read_token_answer(
    spec: ProviderSpec, answer: Answer | NoAnswer, *, grant_type: str
) -> TokenSet | Failure:
    """Classify what a token request came to. Never raises, whatever the provider sends (B7)."""
    if isinstance(answer, NoAnswer):
        return Failure(Outcome.AMBIGUOUS if answer.is_sent else Outcome.NOT_SENT, cause=answer.reason)
    body = _json_object(answer.body)
    error = _error_code(body)
    if 200 <= answer.status < 300 and body is not None and not error:
        tokens = _token_set(spec, body)
        return tokens or Failure(Outcome.AMBIGUOUS, status=answer.status, cause="unreadable answer")
    rule = next(
        (
            rule
            for rule in spec.error_map
            if rule.matches(error=error, status=answer.status, grant_type=grant_type)
        ),
        None,
    )
    # A rule speaks only of an answer that is an OAuth error; a gateway's HTML page with the same status is not one.
    if rule and body is not None:
        cause = rule.cause or _cause(spec, rule.outcome, error)
        return Failure(rule.outcome, error, answer.status, cause, retry_after(answer))
    if answer.status == 429:
        return Failure(Outcome.THROTTLED, error, 429, "throttled", retry_after(answer))
    if error and (200 <= answer.status < 300 or 400 <= answer.status < 500):
        outcome = _standard_outcome(error)
        return Failure(outcome, error, answer.status, _cause(spec, outcome, error), retry_after(answer))
    return Failure(Outcome.AMBIGUOUS, error, answer.status, f"status {answer.status}", retry_after(answer))


def _standard_outcome(error: str) -> Outcome:
    """Classify by RFC 6749 section 5.2 where the provider's own map is silent (B8, B9)."""
    if error == "invalid_grant":
        return Outcome.GRANT_DEAD
    return Outcome.CLIENT_BAD if error in _CLIENT_ERRORS else Outcome.AMBIGUOUS


def _cause(spec: ProviderSpec, outcome: Outcome, error: str) -> str:
    """Say what an error means where the catalog file does not; people read this about a connection that has ended."""
    if outcome is Outcome.GRANT_DEAD:
        return f"{spec.name} no longer accepts its refresh token"
    return f"{error}, which its catalog file does not name" if outcome is Outcome.AMBIGUOUS else error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


# Made once: json.loads makes one for each call that asks for more than the ordinary.
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)


def _json_object(body: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None for anything else, for names that stand twice, and for numbers that are none."""
    try:
        value = _DECODER.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _error_code(body: dict[str, Any] | None) -> str:
    """Return the answer's OAuth error code, or "" (Slack and GitHub send errors with status 200)."""
    if body is None:
        return ""
    error = body.get("error")
    if error is None and body.get("ok") is False:
        error = "not_ok"
    if not error:
        return ""
    return error if isinstance(error, str) and _ERROR_CODE.fullmatch(error) else "unreadable_error"


def _token_set(spec: ProviderSpec, body: dict[str, Any]) -> TokenSet | None:
    holder: Any = body.get(spec.answer_in) if spec.answer_in else body
    if not isinstance(holder, dict):
        return None
    access, refresh = holder.get("access_token"), holder.get("refresh_token")
    if not _is_credential(access) or not (refresh is None or _is_credential(refresh)):
        return None
    token_type = holder.get("token_type", spec.token_type)
    if not isinstance(token_type, str) or token_type.lower() != spec.token_type:
        return None
    return TokenSet(
        access_token=access,
        refresh_token=refresh,
        lifetime=read_lifetime(holder.get("expires_in")),
        scopes=_scopes(spec, holder.get("scope")),
    )


def _is_credential(value: Any) -> TypeGuard[str]:
    """Tell whether it is visible ASCII (RFC 6749 appendix A.12): a line break would split a header."""
    return (
        isinstance(value, str)
        and value.isascii()
        and value.isprintable()
        and bool(value)
        and " " not in value
    )


def _scopes(spec: ProviderSpec, scope: Any) -> tuple[str, ...] | None:
    if isinstance(scope, list):
        names = [name for name in scope if isinstance(name, str)]
    elif isinstance(scope, str) and scope.strip():
        return _scopes_in(scope, spec.scope_separator.strip())
    else:
        return None
    return _readable(names)


@functools.lru_cache(maxsize=256)
def _scopes_in(scope: str, separator: str) -> tuple[str, ...]:
    """Take a list of scopes apart. It is the same text in thousands of answers."""
    return _readable(scope.replace(separator, " ").split() if separator else scope.split())


def _readable(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if _SCOPE.fullmatch(name)))


def read_lifetime(value: Any) -> timedelta | None:
    """Read `expires_in` in seconds; None where it is missing or makes no sense (B6). At most ten years."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # Compared before anything is computed: an integer of 400 digits has no float, and NaN is never at least 1.
    if not value >= 1 or value == math.inf:
        return None
    return timedelta(seconds=min(value, MAX_LIFETIME.total_seconds()))


def retry_after(answer: Answer, *, most: timedelta = MAX_RETRY_AFTER) -> timedelta | None:
    """Read Retry-After in seconds or as a date, at most `most` (B11).

    The date is held against the same answer's Date header: both come from the provider's clock, so ours can be wrong.
    """
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:9])), most)
    until, now = _http_date(text), _http_date(answer.headers.get("date", ""))
    if until is None or now is None:
        return None
    return min(max(until - now, timedelta(0)), most)


def _http_date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
