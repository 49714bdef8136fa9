"""When a grant is refreshed: pure arithmetic, no clock of its own."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from providers.spec import Rotation

if TYPE_CHECKING:
    import uuid

    from providers.oauth import TokenSet
    from providers.spec import RefreshPolicy

# Pauses after an outcome that may or may not have been carried out; all of them inside a leeway of ten minutes.
AMBIGUOUS_PAUSES = [timedelta(seconds=seconds) for seconds in (2, 10, 30, 90, 180)]
UNREACHABLE_PAUSES = [timedelta(seconds=seconds) for seconds in (5, 15, 60)]
LATE_PAUSES = [timedelta(seconds=seconds) for seconds in (30, 120, 600, 1800)]
HELD_PAUSES = [timedelta(minutes=minutes) for minutes in (2, 5, 10, 20, 30)]
THROTTLED_PAUSE = timedelta(seconds=30)
# Stay clear of the leeway's end, by a quarter of a short one: our clock and the provider's need not agree to the second.
LEEWAY_MARGIN = timedelta(seconds=30)


def jitter(grant_id: uuid.UUID, most: timedelta) -> timedelta:
    """Return the same share of `most` for the same grant each time, so that grants of one minute spread out."""
    return most * ((grant_id.int >> 64) % 1000 / 1000)


def access_lifetime(policy: RefreshPolicy, tokens: TokenSet) -> timedelta | None:
    """Return how long the access token lives; None if it does not end.

    Where the answer says nothing, the catalog's default counts, unless there is nothing to refresh with anyway.
    """
    if tokens.lifetime is not None:
        return tokens.lifetime
    return None if policy.rotation is Rotation.NONE else policy.default_lifetime


def due_after(policy: RefreshPolicy, grant_id: uuid.UUID, lifetime: timedelta) -> timedelta:
    """Return how long after issue a refresh is due.

    The refresh comes ahead of expiry by no more than the leeway, so that an old access token still in a caller's
    hands outlives its replacement's arrival; at most a third of a short life, less a stable jitter. Where nothing
    can replace it, it is used to its end.
    """
    if policy.rotation is Rotation.NONE:
        return lifetime
    ahead = min(policy.ahead, lifetime / 3)
    if policy.leeway:
        ahead = min(ahead, policy.leeway)
    return max(timedelta(0), lifetime - ahead - jitter(grant_id, min(timedelta(seconds=60), lifetime / 20)))


def idle_due_after(policy: RefreshPolicy, grant_id: uuid.UUID, fresh: timedelta) -> timedelta | None:
    """Return how long after issue a grant is due that is not kept fresh; None if it never need be.

    A refresh token that rests for too long dies: it is touched after a sixth to a third of the provider's limit, spread
    by a stable jitter. `fresh` is what due_after says.
    """
    if policy.rotation is Rotation.NONE:
        return fresh
    if policy.idle_limit is None:
        return None
    return max(fresh, policy.idle_limit / 3 - jitter(grant_id, policy.idle_limit / 6))


def pause_after_ambiguous(
    policy: RefreshPolicy, *, tries: int, inflight_for: timedelta, access_left: timedelta
) -> timedelta:
    """Return how long to wait before the same refresh token is presented again.

    With a leeway: soon, several times, inside it. Without one the access token is used up first, since a second use
    may end the grant; after that nothing can be lost by trying.
    """
    if policy.rotation in (Rotation.STATIC, Rotation.KEEP_OLD):
        return _step(AMBIGUOUS_PAUSES, tries)
    if policy.leeway:
        margin = min(LEEWAY_MARGIN, policy.leeway / 4)
        left = policy.leeway - margin - inflight_for
        if left > timedelta(0):
            return min(_step(AMBIGUOUS_PAUSES, tries), left)
        return _step(LATE_PAUSES, tries - len(AMBIGUOUS_PAUSES))
    return access_left if access_left > timedelta(0) else _step(LATE_PAUSES, tries)


def pause_after_unreachable(tries: int) -> timedelta:
    """Return how long to wait when the request surely did not arrive."""
    return _step(UNREACHABLE_PAUSES, tries)


def pause_while_held(grant_id: uuid.UUID, tries: int) -> timedelta:
    """Return how long to wait before a refused grant, whose end is held, is tried again."""
    pause = _step(HELD_PAUSES, tries - 2)
    return pause + jitter(grant_id, pause / 4)


def _step(pauses: list[timedelta], tries: int) -> timedelta:
    return pauses[min(max(tries, 0), len(pauses) - 1)]
