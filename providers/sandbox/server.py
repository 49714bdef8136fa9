"""Running the sandbox: as a process of its own, or inside a test."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from providers.sandbox.app import make_app
from providers.sandbox.keys import FAULTS, STATE
from providers.sandbox.persistence import Keeper
from providers.sandbox.switches import Switches


def serve(
    host: str = "127.0.0.1",
    port: int = 8001,
    switches: Switches | None = None,
    *,
    control_token: str = "",
    state_file: Path | None = None,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then stop at once, whatever is under way.

    on_ready is called when the port answers. Raises OSError for a busy port, ValueError for a broken state file.
    """
    asyncio.run(_serve(host, port, make_app(switches, control_token=control_token), state_file, on_ready))


async def _serve(
    host: str,
    port: int,
    app: web.Application,
    state_file: Path | None,
    on_ready: Callable[[], None] | None,
) -> None:
    keeper = Keeper(app[STATE], state_file) if state_file else None
    if keeper:
        keeper.load()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    runner = await start(app, host, port)
    if on_ready:
        on_ready()
    keeping = asyncio.create_task(keeper.keep()) if keeper else None
    try:
        await stop.wait()
    finally:
        if keeping:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
        await halt(app, runner)
        if keeper:
            keeper.save()


async def start(app: web.Application, host: str, port: int) -> web.AppRunner:
    """Listen, and return what `halt` needs. Raises OSError for a busy port."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner


async def halt(app: web.Application, runner: web.AppRunner) -> None:
    """Stop listening and let go of every answer that hangs."""
    app[FAULTS].stopping.set()
    await runner.cleanup()
