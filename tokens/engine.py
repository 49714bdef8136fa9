"""Drain what is due: claim, call with many in flight, commit.

The database is spoken to by the worker's own thread alone, the provider by an event loop in a second thread, and
only values pass between them: claimed grants one way, results the other.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
import time
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from django.db import InterfaceError, InternalError, OperationalError, connection

from providers import http, oauth
from providers.models import ProviderConfig
from providers.oauth import Answer, Failure, OutgoingRequest, TokenSet
from providers.spec import Outcome
from tokens.claim import claim_due
from tokens.clocks import note_clock
from tokens.commit import commit_held
from tokens.gate import is_held_back
from tokens.models import Trigger
from tokens.refresh import prepare, too_late
from tokens.results import Result

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from tokens.claim import Claim

logger = logging.getLogger(__name__)

# Of one configuration. The worker has room for as many again, so that one whose calls hang can't hold all of it.
IN_FLIGHT = 200
# A configuration begins with so many; each answer that it gives lets it have more.
FIRST_WINDOW = 20
# How long a thread keeps the interpreter while the other waits for it, in seconds. After each statement the worker's own
# thread has to have it back; with Python's 5 ms it waited for that longer than for the database.
HAND_OVER = 0.0005
# How often new work is looked for while calls are under way, or while limits hold some back, in seconds.
LOOK_EVERY = 0.25
# Commit what has arrived, but not more than this in one transaction: a transaction stays a few milliseconds long.
GROUP = 100
# How long new calls are begun. The next tick goes on.
BUDGET = timedelta(seconds=60)
# How long answers are held in memory, and their commit tried again, when the database is gone (inside the leeway).
HOLD = timedelta(seconds=240)


class Calls:
    """Token requests under way, on an event loop in a thread of its own."""

    def __init__(self, in_flight: int) -> None:
        # Of one configuration, and of all together.
        self.in_flight = in_flight
        self.room = 2 * in_flight
        self.under_way: Counter[uuid.UUID] = Counter()
        self._windows: dict[uuid.UUID, int] = {}
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="token-requests", daemon=True)

    def __enter__(self) -> Self:
        self._hand_over = sys.getswitchinterval()
        sys.setswitchinterval(HAND_OVER)
        self._thread.start()

        async def make() -> None:
            self._session = http.new_session(in_flight=self.room)

        asyncio.run_coroutine_threadsafe(make(), self._loop).result()
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._session.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        sys.setswitchinterval(self._hand_over)

    @property
    def free(self) -> int:
        """Return how many more may be started."""
        return self.room - self.under_way.total()

    @property
    def first_window(self) -> int:
        """Return how many a configuration may have that has not answered yet."""
        return min(FIRST_WINDOW, self.in_flight)

    def windows(self) -> dict[uuid.UUID, int]:
        """Return how many more calls may be started of each configuration that there was one of."""
        return {
            config_id: max(0, window - self.under_way[config_id])
            for config_id, window in self._windows.items()
        }

    def start(self, claims: list[Claim], configs: Mapping[uuid.UUID, ProviderConfig]) -> None:
        """Send the requests of claims; their results come out of `finished`."""
        requests = []
        for claim in claims:
            config = configs[claim.provider_config_id]
            self.under_way[config.pk] += 1
            self._windows.setdefault(config.pk, self.first_window)
            request = prepare(claim, config)
            if isinstance(request, Result):
                self._results.put(request)
            else:
                requests.append((claim, config, request))
        # One call wakes the loop for all of them.
        self._loop.call_soon_threadsafe(self._send_all, requests)

    def _send_all(self, requests: list[tuple[Claim, ProviderConfig, OutgoingRequest]]) -> None:
        for claim, config, request in requests:
            task = self._loop.create_task(self._call(claim, config, request))
            # The loop itself holds tasks but weakly.
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _call(self, claim: Claim, config: ProviderConfig, request: OutgoingRequest) -> None:
        """Put exactly one result, whatever happens: `drain` waits for it."""
        sent, date = None, ""
        came_to: TokenSet | Failure = Failure(Outcome.NOT_SENT, cause="the claim ran out before it was used")
        try:
            if not too_late(claim):
                sent = time.monotonic()
                came_to = Failure(Outcome.AMBIGUOUS, cause="a fault of our own")
                answer = await http.send(self._session, request)
                date = answer.headers.get("date", "") if isinstance(answer, Answer) else ""
                came_to = oauth.read_token_answer(config.spec, answer, grant_type="refresh_token")
        except Exception as error:  # noqa: BLE001 - its text could hold what the provider sent
            logger.error("A token request ended with %s.", type(error).__name__)  # noqa: TRY400
        self._results.put(Result(claim, config, came_to, sent, sent and time.monotonic(), date))

    def finished(self) -> list[Result]:
        """Wait a while for results, and return all that have arrived, at most GROUP."""
        results: list[Result] = []
        try:
            results.append(self._results.get(timeout=LOOK_EVERY))
            while len(results) < GROUP:
                results.append(self._results.get_nowait())
        except queue.Empty:
            pass
        for result in results:
            self.under_way[result.config.pk] -= 1
            self._windows[result.config.pk] = self._next_window(result)
        return results

    def _next_window(self, result: Result) -> int:
        """Let a configuration that answers have more calls, and one that does not as few as at first."""
        came_to = result.came_to
        if isinstance(came_to, Failure) and came_to.outcome in (Outcome.AMBIGUOUS, Outcome.NOT_SENT):
            return self.first_window
        return min(self.in_flight, self._windows[result.config.pk] + 2)


def drain(*, in_flight: int = IN_FLIGHT, budget: timedelta = BUDGET) -> int:
    """Refresh all that is due, for about `budget`, and return how many attempts were made.

    `in_flight` is how many calls of one configuration may be under way. Safe to run in any number of processes at
    once, and to be killed at any point.
    """
    configs: dict[uuid.UUID, ProviderConfig] = {}
    attempts = 0
    now = time.monotonic()
    look_at, stop = now, now + budget.total_seconds()
    with Calls(in_flight) as calls:
        while True:
            now = time.monotonic()
            if look_at <= now < stop and calls.free:
                try:
                    claims = _claim(calls, configs)
                except (OperationalError, InterfaceError, InternalError):
                    if not calls.under_way.total():
                        raise
                    # The calls that are out come first: their answers can't be had twice. The next tick goes on.
                    connection.close()
                    claims, stop = [], now
                calls.start(claims, configs)
                attempts += len(claims)
                # Where there was nothing, there is no hurry to look again.
                look_at = now if claims else now + LOOK_EVERY
            if calls.under_way.total():
                if results := calls.finished():
                    done = commit_held(results, hold=HOLD)
                    note_clock(results)
                    for result in results:
                        # Perhaps its secret has been replaced meanwhile.
                        if done[result.claim.grant_id].outcome == Outcome.CLIENT_BAD:
                            configs.pop(result.config.pk, None)
            elif time.monotonic() < stop and is_held_back():
                time.sleep(max(0.0, look_at - time.monotonic()))
            else:
                return attempts


def _claim(calls: Calls, configs: dict[uuid.UUID, ProviderConfig]) -> list[Claim]:
    claims = claim_due(
        limit=calls.free,
        trigger=Trigger.BEAT,
        most=calls.windows(),
        most_of_others=calls.first_window,
    )
    _load(configs, claims)
    # One that was deleted since has taken its grants along.
    return [claim for claim in claims if claim.provider_config_id in configs]


def _load(configs: dict[uuid.UUID, ProviderConfig], claims: list[Claim]) -> None:
    missing = {claim.provider_config_id for claim in claims} - set(configs)
    if missing:
        found = ProviderConfig.objects.select_related("application").filter(pk__in=missing)
        configs.update({config.pk: config for config in found})
