"""The door to the outside for bodies that stream: what providers/http.py is for short calls, with the same guards.

The web process's threads block, so calls are made on one event loop in a thread of its own, which keeps connections open
between calls. No side is read faster than the other takes it: at most a few hundred kilobytes of a body are held.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import math
import os
import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from yarl import URL

from providers.http import FAILURES, begin_call, explain, is_allowed, new_session
from providers.oauth import NoAnswer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator
    from typing import Any, TypeVar

    import aiohttp

    Result = TypeVar("Result")

# Until the answer begins, and between two of its parts.
HEAD_SECONDS = 60.0
IDLE_SECONDS = 30.0
# Calls at once to all providers, from one process.
IN_FLIGHT = 200
CHUNK = 64 * 1024
_CHUNKS_AHEAD = 4


class StreamFailedError(Exception):
    """No answer came, or it broke off. `why.is_sent`: the request may have been carried out."""

    def __init__(self, why: NoAnswer) -> None:
        super().__init__(why.reason)
        self.why = why


class Stream:
    """An answer whose head has come. Iterate once over its body's parts, then or before close it."""

    def __init__(self, response: aiohttp.ClientResponse, first: bytes, ends_at: float) -> None:
        self._response, self._ends_at = response, ends_at
        self._is_closed = False
        self.status = response.status
        # Names as plain text: WSGI takes no subclass of it.
        self.headers = [(str(name), value) for name, value in response.headers.items()]
        # What has come of the body with the head.
        self.first = first
        self._held = deque([first] if first else [])

    def __iter__(self) -> Iterator[bytes]:
        """Yield the body as it comes. Raises StreamFailedError when it breaks off."""
        try:
            while self._held or self._read_on():
                yield self._held.popleft()
        finally:
            self.close()

    def read_ahead(self, most: int) -> int | None:
        """Return the body's length if it is at most that, else None; what was read for it is held until it is iterated over.

        Raises StreamFailedError when the body breaks off.
        """
        while self._read_on():
            if sum(map(len, self._held)) > most:
                return None
        return sum(map(len, self._held))

    @property
    def is_over(self) -> bool:
        """Tell whether all of the body was yielded: mostly what came with the head, and then nobody need wait for more."""
        return not self._held and self._has_come

    @property
    def _has_come(self) -> bool:
        return self._response.content.at_eof() and self._response.content.exception() is None

    def _read_on(self) -> bool:
        """Hold the next part; tell whether there is one."""
        part = b"" if self._has_come else _wait(_read(self._response, self._ends_at))
        if part:
            self._held.append(part)
        return bool(part)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up, unless all has come."""
        if not self._is_closed:
            self._is_closed = True
            if not self._has_come:  # Else the connection waits for the next call already.
                _loop(os.getpid()).call_soon_threadsafe(self._response.close)


def open_stream(
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes | Iterator[bytes] | None = None,
    ends_at: float = math.inf,
) -> Stream:
    """Send a request, its body as it comes, and return the answer as soon as it begins. Redirects are not followed.

    `url` is sent as it is written. At `ends_at`, of time.monotonic(), the call is ended wherever it stands. Raises
    StreamFailedError, and what reading the body raises; then the call is ended.
    """
    if not is_allowed(url):
        raise StreamFailedError(NoAnswer(is_sent=False, reason="blocked"))
    loop = _loop(os.getpid())
    if body is None or isinstance(body, bytes):
        return _wait(_open(method, url, headers, body or None, ends_at))
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(_CHUNKS_AHEAD)
    opening = _open(method, url, headers, _parts(queue), ends_at)
    answer = asyncio.run_coroutine_threadsafe(opening, loop)
    try:
        _feed(queue, body, answer, loop)
        return answer.result()
    except BaseException:
        answer.cancel()
        raise


def _feed(
    queue: asyncio.Queue[bytes | None],
    body: Iterator[bytes],
    answer: concurrent.futures.Future[Stream],
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Hand the body over part by part, until the end or until the answer is there before it."""
    for chunk in _and_none(body):
        put = asyncio.run_coroutine_threadsafe(queue.put(chunk), loop)
        either: set[concurrent.futures.Future[Any]] = {put, answer}
        concurrent.futures.wait(either, timeout=IDLE_SECONDS, return_when=concurrent.futures.FIRST_COMPLETED)
        if answer.done():
            put.cancel()
            return
        if not put.done():
            put.cancel()
            raise StreamFailedError(NoAnswer(is_sent=True, reason="time-out"))


def _and_none(body: Iterator[bytes]) -> Iterator[bytes | None]:
    yield from body
    yield None


async def _parts(queue: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (chunk := await queue.get()) is not None:
        yield chunk


async def _open(
    method: str,
    url: str,
    headers: dict[str, str],
    data: bytes | AsyncIterator[bytes] | None,
    ends_at: float,
) -> Stream:
    call = begin_call(url)
    try:
        async with asyncio.timeout_at(ends_at) as deadline:

            def wait_for_the_answer() -> None:
                deadline.reschedule(_within(HEAD_SECONDS, ends_at))

            # A body may take long to come; the time for the answer begins when all of it was sent.
            if hasattr(data, "__aiter__"):
                data = _then(data, wait_for_the_answer)
            else:
                wait_for_the_answer()
            session = await _session()
            response = await session.request(
                method, URL(url, encoded=True), headers=headers, data=data, allow_redirects=False
            )
            try:
                wait_for_the_answer()
                return Stream(response, await response.content.readany(), ends_at)
            except BaseException:
                response.close()
                raise
    except FAILURES as error:
        why = explain(error, call)
        raise StreamFailedError(replace(why, reason=_reason(why.reason, ends_at))) from None


async def _then(parts: Any, at_end: Any) -> AsyncIterator[bytes]:
    async for part in parts:
        yield part
    at_end()


async def _read(response: aiohttp.ClientResponse, ends_at: float) -> bytes:
    try:
        # What is there already would be read whatever the time is.
        if _now() >= ends_at:
            raise TimeoutError
        async with asyncio.timeout_at(_within(IDLE_SECONDS, ends_at)):
            return await response.content.readany()
    except FAILURES as error:
        reason = _reason("time-out", ends_at) if isinstance(error, TimeoutError) else "reset"
        raise StreamFailedError(NoAnswer(is_sent=True, reason=reason)) from None


def _now() -> float:
    """Return the loop's time, which is that of time.monotonic()."""
    return asyncio.get_running_loop().time()


def _within(seconds: float, ends_at: float) -> float:
    return min(_now() + seconds, ends_at)


def _reason(reason: str, ends_at: float) -> str:
    """Say whether a time-out was that of the whole call."""
    return "deadline" if reason == "time-out" and _now() >= ends_at else reason


def _wait(coroutine: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run_coroutine_threadsafe(coroutine, _loop(os.getpid())).result()


_loops: dict[int, asyncio.AbstractEventLoop] = {}
_starting = threading.Lock()


def _loop(process: int) -> asyncio.AbstractEventLoop:
    """Return the running loop of one process; a forked worker makes its own.

    Never two: the session belongs to the loop that made it, and fails on every other.
    """
    with _starting:
        loop = _loops.get(process)
        if loop is None:
            loop = _loops[process] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, daemon=True, name="proxy").start()
            atexit.register(_hang_up, loop)
        return loop


def _hang_up(loop: asyncio.AbstractEventLoop) -> None:
    """Let go of kept connections when the process ends, or asyncio complains of them."""
    session = _sessions.pop(os.getpid(), None)
    if session is not None:
        with contextlib.suppress(Exception):
            asyncio.run_coroutine_threadsafe(session.close(), loop).result(1)


_sessions: dict[int, aiohttp.ClientSession] = {}


async def _session() -> aiohttp.ClientSession:
    """Return this process's session. Only the loop's own thread comes here."""
    session = _sessions.get(os.getpid())
    if session is None:
        session = _sessions[os.getpid()] = new_session(in_flight=IN_FLIGHT)
    return session
