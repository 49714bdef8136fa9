"""The tests' databases: copies of one that is migrated once, and emptied quickly.

Migrating takes 1.6 s of a core, a copy 0.07 s; each worker of a full run has a database of its own, and whoever runs
one test again and again would wait for it each time. The migrated one stays for the next run, under a name that holds
a digest of all that a migration can read.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import django
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.db import connection

if TYPE_CHECKING:
    from django.db.backends.utils import CursorWrapper

# What migrations fill, and nothing else does.
KEPT = {"django_migrations", "django_content_type", "auth_permission"}
# Whoever holds this advisory lock makes the migrated database, or copies it.
LOCK = 0x7E57


def make(name: str) -> None:
    """Make an empty, migrated database of this name, and connect to it."""
    prefix = f"test_{connection.settings_dict['NAME']}_migrated_"
    migrated = prefix + _digest()
    with connection.creation._nodb_cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        cursor.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [prefix])
        there = {row[0] for row in cursor}
        if migrated not in there:
            for old in there:
                _drop(cursor, old)
            _migrate(cursor, f"{prefix}unfinished")
            cursor.execute(f'ALTER DATABASE "{prefix}unfinished" RENAME TO "{migrated}"')
        # Not by force: another session, with the same DATABASE_URL, may be at its tests.
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}"')
        cursor.execute(f'CREATE DATABASE "{name}" TEMPLATE "{migrated}"')
    _connect_to(name)


def drop(name: str, *, instead: str) -> None:
    """Drop a database that `make` made, and let the connection lead to `instead`."""
    _connect_to(instead)
    with connection.creation._nodb_cursor() as cursor:
        _drop(cursor, name)


def empty() -> None:
    """Empty all tables but those that migrations fill.

    Django's way empties and fills those too (65 ms, where this takes 10).
    """
    with connection.cursor() as cursor:
        tables = [
            connection.ops.quote_name(name)
            for name in connection.introspection.table_names(cursor)
            if name not in KEPT
        ]
        # Most have no rows, and a table that is emptied gets new files.
        cursor.execute("SELECT " + ", ".join(f"EXISTS (SELECT FROM {table})" for table in tables))
        full = [table for table, has_rows in zip(tables, cursor.fetchone(), strict=True) if has_rows]
        if full:
            # One string of statements is one transaction. Some of the tables nobody empties otherwise (G3).
            cursor.execute(f"SET LOCAL portal.audit_retention = 'on'; TRUNCATE {', '.join(full)} CASCADE")


def _digest() -> str:
    """Return what changes whenever the migrated database may."""
    digest = hashlib.sha256(django.__version__.encode())
    for app in sorted(apps.get_app_configs(), key=lambda app: app.label):
        folder = Path(app.path)
        is_ours = folder.is_relative_to(settings.BASE_DIR) and ".venv" not in folder.parts
        for path in sorted((folder if is_ours else folder / "migrations").rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _migrate(cursor: CursorWrapper, name: str) -> None:
    _drop(cursor, name)
    cursor.execute(f'CREATE DATABASE "{name}"')
    before = connection.settings_dict["NAME"]
    _connect_to(name)
    call_command("migrate", interactive=False, verbosity=0)
    _connect_to(before)


def _connect_to(name: str) -> None:
    connection.close()
    connection.settings_dict["NAME"] = settings.DATABASES["default"]["NAME"] = name


def _drop(cursor: CursorWrapper, name: str) -> None:
    cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
