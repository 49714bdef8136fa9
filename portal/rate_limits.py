"""How often an API key and its application may call, and how often somewhere a wrong key may be tried (D8, D10).

Calls are counted by the minute, in the web process itself, so that counting costs the hot path nothing; once a second the
processes add their counts up in Valkey. It is a guard against programs gone wild, not an account: what several processes
let through in the same second is noticed a second later. While Valkey is gone each process goes on with its own count,
so calls are let in (signing in is not, see RateLimitsGoneMiddleware). Nothing else is decided on these counts.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import redis
from django.conf import settings

if TYPE_CHECKING:
    import uuid

logger = logging.getLogger(__name__)

WINDOW_S = 60
# An application may call as often as this many busy keys.
KEYS_AN_APPLICATION = 5
# Wrong keys from one address in a minute; a program with an old key and no patience must not fill the log.
MOST_WRONG_KEYS = 60
EXCHANGE_EVERY_S = 1.0


class LimitReachedError(Exception):
    """Too many calls in this minute. `retry_after`: seconds until the next one begins."""

    def __init__(self, left: Left) -> None:
        super().__init__()
        self.left = left
        self.retry_after = left.reset


class Left(NamedTuple):
    """What a caller may still do: calls in this minute, calls left of them, and seconds until the next minute."""

    limit: int
    remaining: int
    reset: int

    def headers(self) -> dict[str, str]:
        """Return the RateLimit headers (draft-ietf-httpapi-ratelimit-headers, as most clients know them)."""
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
        }


@dataclass(slots=True)
class _Count:
    ours: int = 0
    told: int = 0  # Of ours, what Valkey knows.
    others: int = 0


class RateLimits:
    """The counts of one process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._window = 0
        self._counts: dict[str, _Count] = {}
        # Whose key it is never changes, so it may be remembered.
        self._application_of: dict[str, str] = {}
        self._thread: threading.Thread | None = None

    def take(self, public_id: str, application_id: uuid.UUID | str) -> Left:
        """Count one call with a key that was recognised. Raises LimitReachedError, and then counts nothing."""
        application_id = str(application_id)
        limit = settings.API_RATE_LIMIT
        with self._lock:
            self._application_of[public_id] = application_id
            left = min(
                self._left(public_id, limit),
                self._left(application_id, limit * KEYS_AN_APPLICATION),
                key=lambda one: one.remaining,
            )
            if left.remaining <= 0:
                raise LimitReachedError(left)
            self._counts.setdefault(public_id, _Count()).ours += 1
            self._counts.setdefault(application_id, _Count()).ours += 1
        self._keep_exchanging()
        return Left(left.limit, left.remaining - 1, left.reset)

    def is_reached(self, public_id: str, address: str | None) -> bool:
        """Tell whether a call will be refused, as far as is known without looking the key up."""
        limit = settings.API_RATE_LIMIT
        with self._lock:
            application_id = self._application_of.get(public_id, "")
            return (
                self._left(public_id, limit).remaining <= 0
                or self._left(application_id, limit * KEYS_AN_APPLICATION).remaining <= 0
                or self._left(_neighbourhood(address), MOST_WRONG_KEYS).remaining <= 0
            )

    def application_of(self, public_id: str) -> str | None:
        """Return whose key it is, if it was ever recognised here; whether it still is must be asked elsewhere."""
        return self._application_of.get(public_id)

    def note_wrong_key(self, address: str | None) -> None:
        """Count a key that lets nobody in."""
        place = _neighbourhood(address)
        with self._lock:
            left = self._left(place, MOST_WRONG_KEYS)
            self._counts.setdefault(place, _Count()).ours += 1
        if left.remaining == 1:
            logger.warning("Too many wrong API keys from %s: it is not heard for %s s.", place, left.reset)
        self._keep_exchanging()

    def require_few_wrong_keys(self, address: str | None) -> None:
        """Raise LimitReachedError for an address that tried too many wrong keys: right ones must wait too."""
        with self._lock:
            left = self._left(_neighbourhood(address), MOST_WRONG_KEYS)
        if left.remaining <= 0:
            raise LimitReachedError(left)

    def forget(self) -> None:
        """Begin anew, for tests."""
        with self._lock:
            self._counts.clear()

    def exchange(self) -> None:
        """Tell Valkey what was counted here, and learn what was counted elsewhere."""
        with self._lock:
            window = self._window
            news = {name: count.ours - count.told for name, count in self._counts.items()}
        if not news:
            return
        with _valkey().pipeline(transaction=False) as pipeline:
            for name, count in news.items():
                pipeline.incrby(f"calls:{window}:{name}", count)
                pipeline.expire(f"calls:{window}:{name}", 2 * WINDOW_S)
            totals = pipeline.execute()[::2]
        with self._lock:
            for (name, added), total in zip(news.items(), totals, strict=True):
                counted = self._counts.get(name)
                if counted and window == self._window:
                    counted.told += added
                    counted.others = total - counted.told

    def _left(self, name: str, limit: int) -> Left:
        """Return what is left of a limit. The lock must be held."""
        now = time.time()
        window = int(now // WINDOW_S)
        if window != self._window:
            self._window = window
            self._counts = {}
        count = self._counts.get(name)
        used = count.ours + count.others if count else 0
        return Left(limit, max(0, limit - used), math.ceil((window + 1) * WINDOW_S - now))

    def _keep_exchanging(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._exchange_for_ever, daemon=True, name="rate-limits"
                    )
                    self._thread.start()

    def _exchange_for_ever(self) -> None:
        is_gone = False
        while True:
            time.sleep(EXCHANGE_EVERY_S)
            try:
                self.exchange()
            except redis.RedisError as error:
                if not is_gone:
                    logger.warning(
                        "Rate limits are counted by each web process alone: Valkey does not answer (%s).",
                        type(error).__name__,
                    )
                is_gone = True
            else:
                is_gone = False


RATE_LIMITS = RateLimits()


@functools.lru_cache(maxsize=1024)
def _neighbourhood(address: str | None) -> str:
    """Return what counts as one caller: an IPv4 address, or the 64 bits of IPv6 that one customer is given."""
    if address is None:
        return "nowhere"
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv4Address):
        return address
    # How a socket that takes both kinds shows an IPv4 caller: in the same 64 bits as every other.
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found), 64), strict=False))


@functools.cache
def _valkey() -> redis.Redis:
    """Return this process's client. Its time-outs hold nobody but the thread that exchanges."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2, socket_timeout=2)
