"""What must be right before anything is started, each with one sentence if it is not."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import warnings
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import environ
import psycopg
import redis
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import make_conninfo

from portal.local.environment import HOST
from portal.local.errors import InUseError, LocalError

if TYPE_CHECKING:
    from pathlib import Path

    from portal.local.environment import Place

CONNECT_TIMEOUT_S = 5


def require_data_folder(data: Path) -> None:
    """Make the data folder, unseen by git; raises LocalError if nothing can be written there."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Proves that we may write, and keeps database and secrets out of git whatever the folder's name is.
        (data / ".gitignore").write_text("*\n")
    except OSError as error:
        raise LocalError(
            f"Cannot write to {data}: {error.strerror}. Set DATA_DIR to a folder of yours: "
            "DATA_DIR=~/portal-data make run"
        ) from None


def hold_data_folder(data: Path) -> int:
    """Take the folder for this process for as long as it lives, and return the lock.

    Raises InUseError if another `make run` has it.
    """
    lock = os.open(data / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = owner(lock) or "another process"
        os.close(lock)
        raise InUseError(
            f"The portal already runs from {data} ({who}). Use that one, stop it with Ctrl-C, or start a second: "
            "DATA_DIR=.data2 PORT=8010 SANDBOX_PORT=8011 make run"
        ) from None
    return lock


def owner(lock: int) -> str:
    """Return who noted themselves in the lock; somebody who ended properly has left it empty."""
    return os.pread(lock, 200, 0).decode(errors="replace").strip()


def note_owner(lock: int, text: str) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, text.encode(), 0)


def require_free_ports(place: Place) -> None:
    """Raise LocalError if one of our ports is taken; the message offers a free one."""
    ports = {"PORT": place.port}
    if place.has_sandbox:
        ports["SANDBOX_PORT"] = place.sandbox_port
    for name, port in ports.items():
        reason = why_not(port)
        if reason:
            taken = set(ports.values())
            free = next(
                p
                for p in range(port + 10 if port < 60_000 else 8010, 65536)
                if p not in taken and not why_not(p)
            )
            raise LocalError(f"Port {port} {reason}. Choose another: {name}={free} make run")


def why_not(port: int) -> str:
    """Say why we cannot listen on the port, or return an empty string."""
    with socket.socket() as client:
        client.settimeout(1)
        if client.connect_ex((HOST, port)) == 0:
            return "is in use by another program"
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EACCES:
                return "may be used by root only"
            return "is in use by another program"
    return ""


def require_database(url: str) -> None:
    """Raise LocalError if DATABASE_URL cannot be read or nothing answers there. The message holds no password."""
    try:
        with warnings.catch_warnings():
            # The warning about an unknown scheme shows everything, the password included.
            warnings.simplefilter("ignore")
            config = environ.Env.db_url_config(url)
        is_postgres = config["ENGINE"].endswith("postgresql")
    except (ImproperlyConfigured, ValueError, KeyError):
        is_postgres = False
    if not is_postgres:
        raise LocalError(
            "DATABASE_URL cannot be read. It looks like postgres://user:password@host:5432/name; "
            "unset it to use the built-in PostgreSQL."
        )
    parts = {
        "dbname": config["NAME"],
        "user": config["USER"],
        "password": config["PASSWORD"],
        "host": config["HOST"],
        "port": config["PORT"],
        **config.get("OPTIONS", {}),
        "connect_timeout": CONNECT_TIMEOUT_S,
    }
    parts = {name: value for name, value in parts.items() if value}
    try:
        psycopg.connect(make_conninfo(**parts)).close()
    except psycopg.Error as error:
        where = f"{parts.get('host', 'the local socket')}, database {config['NAME']}"
        # "… port 5432 failed: Connection refused", and then advice that ours replaces.
        reason = str(error).strip().partition("\n")[0].rpartition("failed: ")[2]
        raise LocalError(
            f"DATABASE_URL does not answer ({where}): {reason}. "
            "Start that database, correct DATABASE_URL, or unset it to use the built-in PostgreSQL."
        ) from None


def require_broker(url: str) -> None:
    """Raise LocalError if REDIS_URL cannot be read or nothing answers there. The message holds no password."""
    try:
        client = redis.Redis.from_url(
            url, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=CONNECT_TIMEOUT_S
        )
    except ValueError:
        raise LocalError(
            "REDIS_URL cannot be read. It looks like redis://:password@host:6379/0; unset it to use the built-in Valkey."
        ) from None
    where = urlsplit(url).hostname or urlsplit(url).path
    try:
        with client:
            client.ping()
    except redis.RedisError as error:
        raise LocalError(
            f"REDIS_URL does not answer ({where}): {type(error).__name__}. "
            "Start that server, correct REDIS_URL, or unset it to use the built-in Valkey."
        ) from None
