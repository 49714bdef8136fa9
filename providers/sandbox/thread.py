"""The sandbox for tests: a server in a thread, steered over real HTTP."""

import asyncio
import threading
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from providers.sandbox.app import make_app
from providers.sandbox.client import TIMEOUT_SECONDS, ConsentRefusedError, SandboxClient
from providers.sandbox.server import halt, start
from providers.sandbox.switches import Switches

__all__ = ["ConsentRefusedError", "SandboxThread"]


class SandboxThread(SandboxClient):
    """A sandbox of its own on a free loopback port, for as long as the `with` block lasts."""

    def __init__(self, *, control_token: str = "", **switches: Any) -> None:
        super().__init__("", control_token=control_token)
        self._switches = Switches().with_changes(switches)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started = threading.Event()
        self._trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(TIMEOUT_SECONDS)
        if self._trouble is not None:
            raise self._trouble
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT_SECONDS)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as trouble:  # noqa: BLE001 - handed to the thread that waits for us
            self._trouble = trouble
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = make_app(self._switches, control_token=self._control_token)
        runner = await start(app, "127.0.0.1", 0)
        self.url = _address(runner)
        self._started.set()
        await self._stop.wait()
        await halt(app, runner)


def _address(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://{host}:{port}"
