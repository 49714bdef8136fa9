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
from providers.oauth import Failure, OutgoingRequest
from providers.spec import Outcome
from tokens.claim import claim_due
from tokens.commit import commit
from tokens.models import Trigger
from tokens.refresh import prepare, too_late
from tokens.results import Result

if TYPE_CHECKING:
    import uuid

    from tokens.claim import Claim

logger = logging.getLogger(__name__)

IN_FLIGHT = 200
# Commit what has arrived, but not more than this in one transaction: a transaction stays a few milliseconds long.
GROUP = 50
# How long answers are held in memory, and their commit tried again, when the database is gone (inside the leeway).
HOLD = timedelta(seconds=240)


class Calls:
    """Token requests under way, on an event loop in a thread of its own."""

    def __init__(self, in_flight: int) -> None:
        self.in_flight = in_flight
        self.under_way = 0
        self._results: queue.SimpleQueue[Result] = queue.SimpleQueue()
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

    def start(self, claim: Claim, config: ProviderConfig) -> None:
        """Send the request of a claim; its result comes out of `finished`."""
        self.under_way += 1
        request = prepare(claim, config)
        if isinstance(request, Result):
            self._results.put(request)
        else:
            asyncio.run_coroutine_threadsafe(self._call(claim, config, request), self._loop)

    async def _call(self, claim: Claim, config: ProviderConfig, request: OutgoingRequest) -> None:
        if too_late(claim):
            failure = Failure(Outcome.NOT_SENT, cause="the claim ran out before it was used")
            self._results.put(Result(claim, config, failure))
            return
        sent = time.monotonic()
        answer = await http.send(self._session, request)
        came_to = oauth.read_token_answer(config.spec, answer, grant_type="refresh_token")
        self._results.put(Result(claim, config, came_to, sent, time.monotonic()))

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


def drain(*, in_flight: int = IN_FLIGHT, budget: timedelta = timedelta(seconds=60)) -> int:
    """Refresh all that is due, for about `budget`, and return how many attempts were made.

    Safe to run in any number of processes at once, and to be killed at any point.
    """
    configs: dict[uuid.UUID, ProviderConfig] = {}
    attempts, probes, is_more = 0, 1, True
    stop = time.monotonic() + budget.total_seconds()
    with Calls(in_flight) as calls:
        while True:
            if is_more and calls.free and time.monotonic() < stop:
                claims = claim_due(limit=calls.free, trigger=Trigger.BEAT, probes=probes)
                # A configuration that is failing is asked once a tick, not once a round.
                is_more, probes = bool(claims), 0
                _load(configs, claims)
                for claim in claims:
                    calls.start(claim, configs[claim.provider_config_id])
                attempts += len(claims)
            if not calls.under_way:
                return attempts
            _commit_held(calls.finished())


def _load(configs: dict[uuid.UUID, ProviderConfig], claims: list[Claim]) -> None:
    missing = {claim.provider_config_id for claim in claims} - set(configs)
    if missing:
        found = ProviderConfig.objects.select_related("application").filter(pk__in=missing)
        configs.update({config.pk: config for config in found})


def _commit_held(results: list[Result]) -> None:
    """Commit, and while the database is gone hold the answers in memory and try again: they can't be had twice."""
    give_up = time.monotonic() + HOLD.total_seconds()
    pause = 0.1
    while True:
        try:
            commit(results)
            return
        except (OperationalError, InterfaceError):
            if time.monotonic() > give_up:
                raise
            logger.warning("The database is gone; holding %d answers and trying again.", len(results))
            connection.close()
            time.sleep(pause)
            pause = min(pause * 2, 5)
