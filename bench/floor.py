"""The floor of bench-read: a bare WSGI function doing one pooled SELECT, one AES-GCM decrypt and one JSON dump."""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import psycopg_pool
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_pool = psycopg_pool.ConnectionPool(
    os.environ["DATABASE_URL"], min_size=8, max_size=32, kwargs={"autocommit": True}, open=True
)
_cipher = AESGCM(bytes.fromhex(os.environ["BENCH_FLOOR_KEY"]))


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer /floor/<id>."""
    with _pool.connection() as connection:
        (sealed,) = connection.execute(
            "SELECT sealed FROM bench_floor WHERE id = %s", (environ["PATH_INFO"][7:],), binary=True
        ).fetchone()  # type: ignore[misc]
    body = json.dumps({"access_token": _cipher.decrypt(sealed[:12], sealed[12:], None).decode()}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
