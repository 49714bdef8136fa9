"""Can this process do its work? Database, broker, encryption keys, migrations: one cheap question to each."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

import redis
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader

from portal.encryption import UnreadableError
from portal.keycheck import WrongKeyError, compare_keys

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

# In seconds; a broker that hangs must not hold the web's threads.
BROKER_TIMEOUT = 1


def what_is_ready() -> dict[str, bool]:
    """Return what works and what does not. The reasons are in the log, by their type: they could name hosts."""
    return {name: _is_well(name, check) for name, check in CHECKS.items()}


def _is_well(name: str, check: Callable[[], None]) -> bool:
    try:
        check()
    except (
        DatabaseError,
        OSError,
        redis.RedisError,
        WrongKeyError,
        UnreadableError,
        NotMigratedError,
    ) as error:
        logger.warning("Not ready: %s (%s).", name, type(error).__name__)
        return False
    return True


class NotMigratedError(Exception):
    """The database lacks a migration of this code."""


def _check_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _check_broker() -> None:
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=BROKER_TIMEOUT, socket_timeout=BROKER_TIMEOUT
    ) as client:
        client.ping()


def _check_migrations() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT app, name FROM django_migrations")
        if not _newest_migrations() <= set(cursor.fetchall()):
            raise NotMigratedError


@functools.cache
def _newest_migrations() -> frozenset[tuple[str, str]]:
    """Return the last migration of each app in the code, which does not change while the process runs."""
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


CHECKS: dict[str, Callable[[], None]] = {
    "database": _check_database,
    "broker": _check_broker,
    "keys": compare_keys,
    "migrations": _check_migrations,
}
