"""A door that can be shut: a port that leads to the sandbox, or refuses."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Relay:
    """Passes bytes between a port of its own and `target`, once it is open; before that nothing listens."""

    def __init__(self, port: int, target: int) -> None:
        self.port, self._target = port, target

    def open(self) -> None:
        """Let callers in from now on, as long as this process lives."""
        listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=[listener], daemon=True).start()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", self._target))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=[source, sink], daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
