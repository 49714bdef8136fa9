"""psycopg's own cursor on Django's connection, for the few statements that carry whole groups.

Django's cursor writes parameters into the statement's text: for a group of sealed tokens that cost as much as the
rest of the commit. This one sends them beside it, `%(name)b` ones in binary.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def raw_cursor() -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
    """Give a cursor in the current transaction. Its errors are Django's: who holds answers waits for those."""
    connection.ensure_connection()
    with connection.wrap_database_errors, psycopg.Cursor(connection.connection) as cursor:
        yield cursor
