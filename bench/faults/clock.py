"""Time that can be moved: the database's clock, the only one that decides anything, and the sandbox's with it.

The engine asks the database for the time, with functions that PostgreSQL looks for along the search path. The bench puts
functions of its own in front of them. So claims live as long and pauses last as long as in production, the figures are
in production's seconds, and nobody waits for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection

if TYPE_CHECKING:
    import datetime as dt

    from providers.sandbox.client import SandboxClient

_INSTALL = """
CREATE SCHEMA moved;
CREATE TABLE moved.clock (by interval NOT NULL);
INSERT INTO moved.clock VALUES ('0');
CREATE FUNCTION moved.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    'SELECT pg_catalog.clock_timestamp() + by FROM moved.clock';
CREATE FUNCTION moved.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT pg_catalog.statement_timestamp() + by FROM moved.clock';
CREATE FUNCTION moved.now() RETURNS timestamptz LANGUAGE sql STABLE AS
    'SELECT pg_catalog.now() + by FROM moved.clock';
"""
SEARCH_PATH = "SET search_path = moved, pg_catalog, public"


def install() -> None:
    """Put our clock in front of the database's, for all sessions that begin from now on. Once, after the migrations."""
    with connection.cursor() as cursor:
        cursor.execute(_INSTALL)
        cursor.execute(f"ALTER DATABASE {connection.settings_dict['NAME']} {SEARCH_PATH}")
    connection.close()


def install_here() -> None:
    """Put our clock in front of the database's in this session's transaction, and take it away with it."""
    with connection.cursor() as cursor:
        cursor.execute(_INSTALL)
        cursor.execute(SEARCH_PATH)


def database_now() -> dt.datetime:
    """Return the database's time, moved as it is."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    return now  # type: ignore[no-any-return]


def move_database(seconds: float) -> None:
    """Let the database's clock jump, alone."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE moved.clock SET by = by + make_interval(secs => %s)", [seconds])


def let_pass(seconds: float, sandbox: SandboxClient) -> None:
    """Let time pass for everybody."""
    move_database(seconds)
    sandbox.move_clock(seconds)
