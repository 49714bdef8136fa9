"""Deliver what is due: claim, call with many in flight, settle each as its answer comes.

As in tokens/engine.py the database is spoken to by the worker's own thread, the outside by an event loop in a second
one. A dead endpoint holds its own few places until its time-out; everybody else's messages pass it by.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from portal.encryption import UnreadableError
from providers import http
from providers.oauth import NoAnswer, OutgoingRequest
from tokens.webhooks.claim import TIMEOUT, Claim, claim_due, is_delivered_elsewhere
from tokens.webhooks.settle import EXCERPT_BYTES, Reply, settle
from tokens.webhooks.signing import secrets_of, signed_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import aiohttp

logger = logging.getLogger(__name__)

IN_FLIGHT = 200
# How long new calls are begun. The next tick goes on.
BUDGET = timedelta(seconds=30)
# While answers are awaited, new messages are looked for this often.
LOOK_AGAIN_SECONDS = 0.5


def deliver(*, in_flight: int = IN_FLIGHT, budget: timedelta = BUDGET) -> int:
    """Send all that is due, for about `budget`, and return how many tries were made.

    Safe to run in any number of processes at once, and to be killed at any point.
    """
    stop = time.monotonic() + budget.total_seconds()
    claims = [] if is_delivered_elsewhere() else claim_due(limit=in_flight)
    tries = 0
    if not claims:
        return tries
    under_way: dict[Future[Reply], Claim] = {}
    with _calls(in_flight) as send:
        while claims or under_way:
            for claim in claims:
                tries += 1
                under_way[_begin(claim, send)] = claim
            answered, _ = wait(under_way, LOOK_AGAIN_SECONDS, FIRST_COMPLETED)
            for future in answered:
                settle(under_way.pop(future), _result(future))
            room = in_flight - len(under_way)
            claims = claim_due(limit=room) if room and time.monotonic() < stop else []
    return tries


def _begin(claim: Claim, send: Callable[[OutgoingRequest], Future[Reply]]) -> Future[Reply]:
    """Begin a call. What is wrong with one message, or with us, is no other message's fault."""
    future: Future[Reply] = Future()
    try:
        request = _request(claim)
        if isinstance(request, OutgoingRequest):
            return send(request)
        future.set_result(request)
    except Exception as error:  # noqa: BLE001 - `_result` says its name
        future.set_exception(error)
    return future


def _request(claim: Claim) -> OutgoingRequest | NoAnswer:
    """Build the signed request of a claim, or say why nothing is sent."""
    if time.monotonic() > claim.send_before:
        return NoAnswer(is_sent=False, reason="too late")
    try:
        secrets = secrets_of(claim.endpoint, claim.started_at)
    except UnreadableError:
        return NoAnswer(is_sent=False, reason="secret unreadable")
    headers = signed_headers(f"msg_{claim.uid.hex}", claim.body, at=claim.started_at, secrets=secrets)
    return OutgoingRequest(
        "POST",
        claim.endpoint.url,
        {**headers, "Content-Type": "application/json"},
        claim.body.encode(),
        timeout=TIMEOUT,
        max_body=EXCERPT_BYTES,
        is_cut=True,
    )


def _result(future: Future[Reply]) -> Reply:
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001 - its text could hold what the other side sent
        logger.error("A webhook call ended with %s.", type(error).__name__)  # noqa: TRY400
        return NoAnswer(is_sent=True, reason="a fault of our own")


@contextmanager
def _calls(in_flight: int) -> Iterator[Callable[[OutgoingRequest], Future[Reply]]]:
    """Give a function that sends from an event loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="webhooks", daemon=True)
    thread.start()

    async def open_session() -> aiohttp.ClientSession:
        return http.new_session(in_flight=in_flight)

    async def close() -> None:
        # Tasks are left only where the worker is being stopped: their messages are sent again when the claim runs out.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await session.close()

    session = asyncio.run_coroutine_threadsafe(open_session(), loop).result()
    try:
        yield lambda request: asyncio.run_coroutine_threadsafe(http.send(session, request), loop)
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
