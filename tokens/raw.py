"""psycopg's own cursor on Django's connection, for the few statements that carry whole groups.

Django's cursor writes parameters into the statement's text: for a group of sealed tokens that cost as much as the
rest of the commit. This one sends them beside it, `%(name)b` ones in binary.
"""

from __future__ import annotations

from typing import Any

import psycopg
from django.db import connection


def raw_cursor() -> psycopg.Cursor[tuple[Any, ...]]:
    """Return a cursor in the current transaction; to be used as a context manager."""
    connection.ensure_connection()
    return psycopg.Cursor(connection.connection)
