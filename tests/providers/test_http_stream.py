"""The door to the outside for bodies that stream; what passes it is shown in tests/security/test_proxy.py."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from providers import http_stream

if TYPE_CHECKING:
    import pytest

THREADS = 16


def test_the_first_calls_of_a_process_share_one_loop_however_many_come_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_stream.atexit, "register", lambda *_: None)
    together = threading.Barrier(THREADS)

    def first_call(process: int) -> int:
        together.wait()
        return id(http_stream._loop(process))

    with ThreadPoolExecutor(THREADS) as pool:
        # Of processes that there are none of.
        loops = [set(pool.map(first_call, [process] * THREADS)) for process in (-1, -2, -3)]
    for process in (-1, -2, -3):
        loop = http_stream._loops.pop(process)
        loop.call_soon_threadsafe(loop.stop)
        while loop.is_running():
            time.sleep(0.001)
        loop.close()

    assert [len(found) for found in loops] == [1, 1, 1]
