"""Make a call for an application with a grant's token: written down first, bounded, and with one second try at most."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings

from portal.models import Event
from providers.http_stream import Stream, StreamFailedError, open_stream
from tokens.clock import database_now
from tokens.errors import TooManyAtOnceError, UpstreamFailedError, UpstreamTimeoutError
from tokens.hand_out import HandedOut, hand_out
from tokens.refresh import refresh_refused

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from portal.audit import Actor
    from providers.spec import ProxyRules
    from tokens.models import Grant
    from tokens.proxy_path import Target

# Each way. Larger files are fetched with a token of one's own.
MOST_BYTES = 100 * 1024 * 1024
# Of one application, in one web process: each holds one of its 16 threads.
MOST_AT_ONCE = 8
# Of all applications: the other threads are for everything else, such as tokens and people.
MOST_OF_ALL = 12
# Time enough to make the call.
MIN_TTL = timedelta(seconds=60)
# What may be sent a second time (RFC 9110, section 9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})

_lock = threading.Lock()
_under_way: dict[uuid.UUID, int] = {}


@contextmanager
def place_in_line(application_id: uuid.UUID) -> Iterator[None]:
    """Hold one of the application's places for as long as a call lasts (E7). Raises TooManyAtOnceError."""
    with _lock:
        is_full = sum(_under_way.values()) >= MOST_OF_ALL
        if is_full or _under_way.get(application_id, 0) >= MOST_AT_ONCE:
            raise TooManyAtOnceError(retry_after=1)
        _under_way[application_id] = _under_way.get(application_id, 0) + 1
    try:
        yield
    finally:
        with _lock:
            _under_way[application_id] -= 1
            if not _under_way[application_id]:
                del _under_way[application_id]


def call_through(
    grant: Grant,
    target: Target,
    *,
    method: str,
    headers: dict[str, str],
    body: bytes | Iterator[bytes] | None,
    actor: Actor,
    rules: ProxyRules,
    first: HandedOut | None = None,
) -> Stream:
    """Make a call with the grant's token and return the answer as it begins.

    `first` is a token that was handed out for this call already. One that the provider refuses is refreshed once; then the
    call is made again, if that does no harm (E9). All of it, the answer's last part too, is over after PROXY_DEADLINE_S.
    Raises UpstreamFailedError, UpstreamTimeoutError, and what hand_out raises.
    """
    ends_at = time.monotonic() + settings.PROXY_DEADLINE_S

    def attempt(handed_out: HandedOut | None) -> tuple[HandedOut, Stream]:
        handed_out = handed_out or hand_out(
            grant,
            min_ttl=MIN_TTL,
            actor=actor,
            event=Event.PROXY_CALLED,
            method=method,
            product=target.product,
            site=target.cloud_id,
            path=target.path[:500],
        )
        bearer = {"Authorization": f"Bearer {handed_out.access_token}"}
        try:
            return handed_out, open_stream(method, target.url, headers | bearer, body, ends_at)
        except StreamFailedError as error:
            raise in_words(error) from None

    handed_out, answer = attempt(first)
    if not _is_refused(answer, handed_out, rules):
        return answer
    try:
        is_newer = refresh_refused(grant, gen=handed_out.grant.gen)
    except BaseException:
        answer.close()
        raise
    if not is_newer or method not in IDEMPOTENT or not (body is None or isinstance(body, bytes)):
        return answer
    answer.close()
    return attempt(None)[1]


def in_words(error: StreamFailedError) -> UpstreamTimeoutError | UpstreamFailedError:
    """Return what the caller is told of a call that failed at the provider, or was not over in time."""
    arrived = error.why.is_sent
    match error.why.reason:
        case "deadline":
            text = (
                f"The call was not over after {settings.PROXY_DEADLINE_S} seconds, the longest that this portal lets one "
                "take (PROXY_DEADLINE_S). The provider may have acted on it all the same."
            )
            return UpstreamTimeoutError(text, may_have_arrived=arrived)
        case "time-out":
            return UpstreamTimeoutError(may_have_arrived=arrived)
        case reason:
            return UpstreamFailedError(reason=reason, may_have_arrived=arrived)


def _is_refused(answer: Stream, handed_out: HandedOut, rules: ProxyRules) -> bool:
    """Tell whether an answer means that the token is no good any more."""
    if answer.status == 401:
        return not (rules.not_expired and rules.not_expired.encode() in answer.first)
    return (
        answer.status in rules.expired_statuses
        and handed_out.expires_at is not None
        and handed_out.expires_at <= database_now()
    )
