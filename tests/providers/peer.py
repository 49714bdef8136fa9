"""Servers that misbehave on purpose: what they do to a connection is up to the test."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
import ssl
import struct
import threading
from typing import TYPE_CHECKING, Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from providers.oauth import OutgoingRequest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BODY = b"grant_type=refresh_token&refresh_token=CANARY-7f3a-refresh"


def reply(body: bytes = b"{}", *, status: str = "200 OK", headers: str = "") -> bytes:
    """Return a whole HTTP answer."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    )
    return head.encode() + body


def read_request(connection: socket.socket) -> bytes:
    """Read one whole request, body included; b"" if the other side has gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65536)
        if not chunk:
            return b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def reset(connection: socket.socket) -> None:
    """Drop a connection with RST, as a crashed peer does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Peer:
    """A server on loopback. `behave` gets each connection in a thread of its own, and `received` what it read."""

    def __init__(
        self, behave: Callable[[Peer, socket.socket], None], *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._behave, self._tls = behave, tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.received: list[bytes] = []
        self.connections = 0
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def url(self, path: str = "/token", *, host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def request(self, method: str = "POST", *, seconds: float = 5, **options: Any) -> OutgoingRequest:
        """Return a request to this server."""
        body = BODY if method == "POST" else b""
        timeout = dt.timedelta(seconds=seconds)
        return OutgoingRequest(method, self.url(**options), {"X-Test": "yes"}, body, timeout)

    def read(self, connection: socket.socket) -> bytes:
        """Read a request and remember it."""
        request = read_request(connection)
        if request:
            self.received.append(request)
        return request

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while not self.stopping.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(connection):
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with contextlib.closing(connection):
                self._behave(self, connection)


def answering(answer: bytes) -> Callable[[Peer, socket.socket], None]:
    """Behave well: read requests and answer each, on one connection as long as the client likes."""

    def behave(peer: Peer, connection: socket.socket) -> None:
        while peer.read(connection):
            connection.sendall(answer)

    return behave


def self_signed(folder: Path, host: str = "127.0.0.1") -> ssl.SSLContext:
    """Return a server's TLS context with a certificate that nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    file = folder / "peer.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
