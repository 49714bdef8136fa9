"""Let calls that come at the same time share one trip to the database.

While trips are under way, calls queue up, and whoever goes next takes all that wait along. Nobody waits for company: a
call that comes alone goes at once. The busier it gets, the more share a trip, its commit and its wait for the disk.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

# Measured (docs/benchmarks.md): with one, everybody waits while it waits for the disk; with many, few share one.
TRIPS = 2
SEATS = 16


class _Call(Generic[Asked, Answer]):
    __slots__ = ("answer", "asked", "is_answered", "signal")

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.answer: Answer | None = None
        self.is_answered = False
        # Held until the call is answered, or its turn to go has come.
        self.signal = threading.Lock()
        self.signal.acquire()


class Together(Generic[Asked, Answer]):
    """What several threads ask for, asked together. Thread-safe.

    `carry` gets what is asked for and returns as many answers, in this order; it runs in the thread of one of them.
    """

    def __init__(self, carry: Callable[[Sequence[Asked]], Sequence[Answer | None]]) -> None:
        self._carry = carry
        self._lock = threading.Lock()
        self._waiting: list[_Call[Asked, Answer]] = []
        self._under_way = 0

    def ask(self, asked: Asked) -> Answer | None:
        """Return the answer. If `carry` raises, whose thread it was in gets the error, and who came along gets None."""
        mine: _Call[Asked, Answer] = _Call(asked)
        with self._lock:
            goes = self._under_way < TRIPS
            if goes:
                self._under_way += 1
            else:
                self._waiting.append(mine)
        if not goes:
            mine.signal.acquire()
            if mine.is_answered:
                return mine.answer
        with self._lock:
            group = [mine, *self._waiting[: SEATS - 1]]
            del self._waiting[: SEATS - 1]
        try:
            for call, answer in zip(group, self._carry([call.asked for call in group]), strict=True):
                call.answer = answer
        finally:
            self._let_the_next_go()
            for call in group[1:]:
                call.is_answered = True
                call.signal.release()
        return mine.answer

    def _let_the_next_go(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.pop(0).signal.release()
            else:
                self._under_way -= 1
