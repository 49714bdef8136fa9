"""Drain what is due: claim, call with many in flight, commit.

The database is spoken to by the worker's own thread alone, the provider by an event loop in a second thread, and
only values pass between them: claimed grants one way, results the other.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from django.db import InterfaceError, OperationalError, connection

from providers import http, oauth
from providers.models import ProviderConfig
from providers.oauth import Failure, OutgoingRequest, TokenSet
from providers.spec import Outcome
from tokens.claim import claim_due
from tokens.commit import commit_held
from tokens.models import Trigger
from tokens.refresh import prepare, too_late
from tokens.results import Result

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from tokens.claim import Claim

logger = logging.getLogger(__name__)

IN_FLIGHT = 200
# Commit what has arrived, but not more than this in one transaction: a transaction stays a few milliseconds long.
GROUP = 50
# How long new calls are begun. The next tick goes on.
BUDGET = timedelta(seconds=60)
# How long answers are held in memory, and their commit tried again, when the database is gone (inside the leeway).
HOLD = timedelta(seconds=240)


class Calls:
    """Token requests under way, on an event loop in a thread of its own."""

    def __init__(self, in_flight: int) -> None:
        self.in_flight = in_flight
        self.under_way = 0
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="token-requests", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()

        async def make() -> None:
            self._session = http.new_session(in_flight=self.in_flight)

        asyncio.run_coroutine_threadsafe(make(), self._loop).result()
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._session.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def free(self) -> int:
        """Return how many more may be started."""
        return self.in_flight - self.under_way

    def start(self, claims: list[Claim], configs: Mapping[uuid.UUID, ProviderConfig]) -> None:
        """Send the requests of claims; their results come out of `finished`."""
        self.under_way += len(claims)
        requests = []
        for claim in claims:
            config = configs[claim.provider_config_id]
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
        sent = None
        came_to: TokenSet | Failure = Failure(Outcome.NOT_SENT, cause="the claim ran out before it was used")
        try:
            if not too_late(claim):
                sent = time.monotonic()
                came_to = Failure(Outcome.AMBIGUOUS, cause="a fault of our own")
                answer = await http.send(self._session, request)
                came_to = oauth.read_token_answer(config.spec, answer, grant_type="refresh_token")
        except Exception as error:  # noqa: BLE001 - its text could hold what the provider sent
            logger.error("A token request ended with %s.", type(error).__name__)  # noqa: TRY400
        self._results.put(Result(claim, config, came_to, sent, sent and time.monotonic()))

    def finished(self) -> list[Result]:
        """Wait for one result, and return it with all that have arrived beside it, at most GROUP."""
        results = [self._results.get()]
        while len(results) < GROUP:
            try:
                results.append(self._results.get_nowait())
            except queue.Empty:
                break
        self.under_way -= len(results)
        return results


def drain(*, in_flight: int = IN_FLIGHT, budget: timedelta = BUDGET) -> int:
    """Refresh all that is due, for about `budget`, and return how many attempts were made.

    Safe to run in any number of processes at once, and to be killed at any point.
    """
    configs: dict[uuid.UUID, ProviderConfig] = {}
    attempts, probes, is_more = 0, 1, True
    stop = time.monotonic() + budget.total_seconds()
    with Calls(in_flight) as calls:
        while True:
            if is_more and calls.free and time.monotonic() < stop:
                try:
                    claims = claim_due(limit=calls.free, trigger=Trigger.BEAT, probes=probes)
                    _load(configs, claims)
                except (OperationalError, InterfaceError):
                    if not calls.under_way:
                        raise
                    # The calls that are out come first: their answers can't be had twice.
                    connection.close()
                    claims = []
                # A configuration that is failing is asked once a tick, not once a round.
                is_more, probes = bool(claims), 0
                # One that was deleted since has taken its grants along.
                claims = [claim for claim in claims if claim.provider_config_id in configs]
                calls.start(claims, configs)
                attempts += len(claims)
            if not calls.under_way:
                return attempts
            commit_held(calls.finished(), hold=HOLD)


def _load(configs: dict[uuid.UUID, ProviderConfig], claims: list[Claim]) -> None:
    missing = {claim.provider_config_id for claim in claims} - set(configs)
    if missing:
        found = ProviderConfig.objects.select_related("application").filter(pk__in=missing)
        configs.update({config.pk: config for config in found})
