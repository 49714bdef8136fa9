"""How many token requests a second one sandbox process answers on loopback.

The client is a process of its own, with as little work per request as possible: each connection keeps refreshing
its own grant, so every request rotates a token. Beside it, the same client against a bare aiohttp handler that
answers the same number of bytes: the most that the server library could do here.

    python -m bench.sandbox [--seconds 5] [--connections 32]
"""

import argparse
import asyncio
import json
import multiprocessing
import socket
import time
from collections.abc import Callable
from urllib.request import Request, urlopen

from aiohttp import web

from providers.sandbox import serve

CLIENT_ID = "bench-client"
BARE_ANSWER = json.dumps(
    {"access_token": "a" * 1500, "refresh_token": "r" * 1125, "expires_in": 3600}
).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    sandbox = _measure(_run_sandbox, options.seconds, options.connections, mints=True)
    bare = _measure(_run_bare, options.seconds, options.connections, mints=False)
    print(f"sandbox, refresh with rotation: {sandbox:7.0f} requests/s")
    print(f"bare aiohttp, same bytes:       {bare:7.0f} requests/s")
    print(f"ratio:                          {sandbox / bare:7.2f}")


def _measure(target: Callable[[int], None], seconds: float, connections: int, *, mints: bool) -> float:
    port = _free_port()
    # Another process, so that server and client do not share an interpreter.
    server = multiprocessing.get_context("spawn").Process(target=target, args=(port,), daemon=True)
    server.start()
    try:
        _wait_for(port)
        tokens = _mint(port, connections) if mints else ["r" * 1125] * connections
        return asyncio.run(_load(port, tokens, seconds))
    finally:
        server.terminate()
        server.join(5)


async def _load(port: int, tokens: list[str], seconds: float) -> float:
    # The first part warms up connections and caches and is not counted.
    begin = time.perf_counter() + min(1.0, seconds / 4)
    end = begin + seconds
    counts = await asyncio.gather(*(_refresh_for_ever(port, token, begin, end) for token in tokens))
    return sum(counts) / seconds


async def _refresh_for_ever(port: int, token: str, begin: float, end: float) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while (now := time.perf_counter()) < end:
        order = {
            "grant_type": "refresh_token",
            "client_id": CLIENT_ID,
            "client_secret": "bench-secret",
            "refresh_token": token,
        }
        body = json.dumps(order).encode()
        head = (
            f"POST /oauth/token HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        at = answer.index(b"content-length:") + 15
        body = await reader.readexactly(int(answer[at : answer.index(b"\r", at)]))
        if not answer.startswith(b"http/1.1 200"):
            raise SystemExit(f"The sandbox refused: {body[:200]!r}")
        token = json.loads(body)["refresh_token"]
        count += now >= begin
    writer.close()
    return count


def _run_sandbox(port: int) -> None:
    serve("127.0.0.1", port)


def _run_bare(port: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=BARE_ANSWER, content_type="application/json")

    app = web.Application()
    app.router.add_post("/oauth/token", answer)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


def _mint(port: int, count: int) -> list[str]:
    order = json.dumps({"client_id": CLIENT_ID, "count": count}).encode()
    with urlopen(Request(f"http://127.0.0.1:{port}/_sandbox/mint", data=order), timeout=10) as response:
        return [grant["refresh_token"] for grant in json.load(response)["grants"]]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit("The server did not come up within ten seconds.")


if __name__ == "__main__":
    main()
