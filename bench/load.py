"""The benches' client: some keep-alive connections, each asking again as soon as it is answered.

One process of its own with one thread, raw sockets and as little work per answer as possible, so that it is never what
is measured; how much of a core it took is printed beside each result.
"""

import multiprocessing
import os
import random
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Load:
    """What the client saw. Times in seconds; `cpu` is the share of a core that the client itself took."""

    per_second: float
    p50: float
    p99: float
    cpu: float
    statuses: dict[str, int] = field(default_factory=dict)


def load(
    port: int,
    paths: Sequence[str],
    headers: str | Sequence[str],
    *,
    clients: int,
    seconds: float,
    warm_up: float = 2.0,
) -> Load:
    """Ask for paths drawn at random, with `clients` connections at once, and return what came of it.

    `headers` are the same for all, or each path has its own.
    """
    own = [headers] * len(paths) if isinstance(headers, str) else headers
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_drive, args=(theirs, port, paths, own, clients, seconds, warm_up))
    process.start()
    theirs.close()
    try:
        return ours.recv()  # type: ignore[no-any-return]
    except EOFError:
        raise SystemExit("The client ended early; is the server up?") from None
    finally:
        process.join()


@dataclass
class _Connection:
    socket: socket.socket
    asked_at: float = 0.0
    answer: bytearray = field(default_factory=bytearray)


def _drive(
    pipe: object,
    port: int,
    paths: Sequence[str],
    headers: Sequence[str],
    clients: int,
    seconds: float,
    warm_up: float,
) -> None:
    asked = [
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{own}\r\n".encode()
        for path, own in zip(paths, headers, strict=True)
    ]
    selector = selectors.DefaultSelector()
    times: list[float] = []
    statuses: dict[str, int] = {}
    begin = time.perf_counter() + warm_up
    end = begin + seconds
    cpu = 0.0

    def ask(connection: _Connection) -> None:
        connection.answer.clear()
        connection.asked_at = time.perf_counter()
        connection.socket.sendall(random.choice(asked))

    for _ in range(clients):
        connection = _Connection(socket.create_connection(("127.0.0.1", port)))
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        ask(connection)
    while (now := time.perf_counter()) < end:
        if not cpu and now >= begin:
            cpu = time.process_time()
        for key, _ in selector.select(1.0):
            connection = key.data
            chunk = connection.socket.recv(262_144)
            if not chunk:
                raise SystemExit("The server hung up.")
            connection.answer += chunk
            if not _is_whole(connection.answer):
                continue
            now = time.perf_counter()
            status = connection.answer[9:12].decode()
            statuses[status] = statuses.get(status, 0) + 1
            if connection.asked_at >= begin:
                times.append(now - connection.asked_at)
            ask(connection)
    times.sort()
    pipe.send(  # type: ignore[attr-defined]
        Load(
            per_second=len(times) / seconds,
            p50=times[len(times) // 2],
            p99=times[int(len(times) * 0.99)],
            cpu=(time.process_time() - cpu) / seconds,
            statuses=statuses,
        )
    )
    os._exit(0)


def _is_whole(answer: bytearray) -> bool:
    head = answer.find(b"\r\n\r\n")
    if head < 0:
        return False
    names = bytes(answer[:head]).lower()
    at = names.find(b"content-length:")
    if at < 0:
        return answer.endswith(b"0\r\n\r\n")
    length = int(names[at + 15 :].split(b"\r", 1)[0])
    return len(answer) >= head + 4 + length
