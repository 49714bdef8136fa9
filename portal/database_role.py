"""Give a database role what the running portal needs, and nothing that could change the audit log (G3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from psycopg import sql

if TYPE_CHECKING:
    from django.db.backends.utils import CursorWrapper

# What is not the usual SELECT, INSERT, UPDATE, DELETE. The key of the seals is encrypted anew by a rotation.
NARROW = {
    "portal_auditevent": "SELECT, INSERT",
    "portal_auditseal": "SELECT, INSERT",
    "portal_auditkey": "SELECT, INSERT, UPDATE",
    "django_migrations": "SELECT",
}
USUAL = "SELECT, INSERT, UPDATE, DELETE"

# Statements, run in one transaction. Tables of later migrations get the usual rights by themselves.
_FOR_ALL = (
    "GRANT CONNECT ON DATABASE {database} TO {role}",
    "GRANT USAGE ON SCHEMA {schema} TO {role}",
    "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}",
    f"ALTER DEFAULT PRIVILEGES IN SCHEMA {{schema}} GRANT {USUAL} ON TABLES TO {{role}}",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT USAGE, SELECT ON SEQUENCES TO {role}",
)
_FOR_A_TABLE = (
    "REVOKE ALL ON {schema}.{table} FROM {role}",
    "GRANT {rights} ON {schema}.{table} TO {role}",
)
_ROLE = """
SELECT r.rolsuper, r.rolcreaterole,
    EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace
        AND c.relkind IN ('r', 'p') AND pg_has_role(r.oid, c.relowner, 'MEMBER')),
    pg_has_role(r.oid, (SELECT datdba FROM pg_database WHERE datname = current_database()), 'MEMBER')
FROM pg_roles r WHERE r.rolname = %s
"""
# Rights may also come from PUBLIC, or from a role that this one is a member of.
_TOO_MUCH = """
SELECT t FROM unnest(ARRAY['portal_auditevent', 'portal_auditseal']) t
WHERE has_table_privilege(%(role)s, t, 'UPDATE, DELETE, TRUNCATE, TRIGGER') OR has_any_column_privilege(%(role)s, t, 'UPDATE')
"""


class DatabaseRoleError(Exception):
    """The role is not there, or could do more than it may."""


def give_rights(role: str) -> None:
    """Give an existing role its rights, and take others away. Raises DatabaseRoleError, and changes nothing then."""
    with transaction.atomic(), connection.cursor() as cursor:
        _require_harmless(cursor, role)
        cursor.execute("SELECT current_database(), current_schema()")
        database, schema = cursor.fetchone()
        names = {
            "database": sql.Identifier(database),
            "schema": sql.Identifier(schema),
            "role": sql.Identifier(role),
        }
        for statement in _FOR_ALL:
            cursor.execute(sql.SQL(statement).format(**names))
        for table in connection.introspection.table_names(cursor):
            for statement in _FOR_A_TABLE:
                rights = sql.SQL(NARROW.get(table, USUAL))
                cursor.execute(sql.SQL(statement).format(rights=rights, table=sql.Identifier(table), **names))
        cursor.execute(_TOO_MUCH, {"role": role})
        if tables := [row[0] for row in cursor]:
            raise DatabaseRoleError(
                f"'{role}' could still change {' and '.join(tables)}: by rights of PUBLIC, or of a role that it is a "
                "member of. Take those away first. Nothing was changed."
            )


def _require_harmless(cursor: CursorWrapper, role: str) -> None:
    cursor.execute(_ROLE, [role])
    found: tuple[Any, ...] | None = cursor.fetchone()
    if found is None:
        raise DatabaseRoleError(
            f"There is no role '{role}'. Make it first, as the server's administrator: "
            f"""CREATE ROLE "{role}" LOGIN PASSWORD '…'"""
        )
    is_superuser, is_powerful, is_owner, is_owner_of_all = found
    if is_superuser:
        raise DatabaseRoleError(f"'{role}' is a superuser: no right can be kept from it. Make another one.")
    if is_powerful:
        raise DatabaseRoleError(
            f"'{role}' may make roles, and so make itself the owner. Make another one that may not."
        )
    if is_owner or is_owner_of_all:
        raise DatabaseRoleError(
            f"'{role}' owns the database or a table of it, or is a member of a role that does: owners can do everything. "
            "Make another one, and run migrations as the owner."
        )
