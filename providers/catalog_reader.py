"""Take fields out of a catalog file's tables, and say clearly what is wrong with one."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import enum
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    Choice = TypeVar("Choice", bound=enum.StrEnum)

_KINDS = {str: "text", int: "a whole number", bool: "true or false", dict: "a table", list: "a list"}


class CatalogError(Exception):
    """A catalog file is wrong; the message names file and field and says what is expected."""


class Reader:
    """Takes fields out of a table, checks them, and complains of what is left over.

    A field without a default is required. Every method raises CatalogError.
    """

    def __init__(self, file: Path, table: Mapping[str, Any], where: str = "", *, plain_http: bool) -> None:
        self.file, self.table, self.where, self.plain_http = file, dict(table), where, plain_http
        self._children: list[Reader] = []

    def fail(self, name: str, problem: str) -> CatalogError:
        """Return the error to raise about one field."""
        return CatalogError(f"{self.file}: {self.where}{name} {problem}")

    def take(self, name: str, kind: type, default: Any = ...) -> Any:
        if name not in self.table:
            if default is ...:
                raise self.fail(name, f"is missing; it must be {_KINDS[kind]}.")
            return default
        value = self.table.pop(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.fail(name, f"must be {_KINDS[kind]}, it is {value!r}.")
        return value

    def text(self, name: str, default: Any = ...) -> str:
        value = str(self.take(name, str, default)).strip()
        if default is ... and not value:
            raise self.fail(name, "is empty; it must be text.")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Take a list of texts."""
        values = self.take(name, list, [])
        if not all(isinstance(value, str) and value.strip() for value in values):
            raise self.fail(name, f"must be a list of texts, it is {values!r}.")
        return tuple(values)

    def named_texts(self, name: str, *, reserved: Iterable[str] = ()) -> dict[str, str]:
        """Take a table of texts, none of it under a reserved name."""
        table = self.take(name, dict, {})
        for key, value in table.items():
            if not isinstance(value, str):
                raise self.fail(f"{name}.{key}", f"must be text, it is {value!r}.")
            if key in reserved:
                raise self.fail(f"{name}.{key}", "cannot be given: it is set for each request.")
        return dict(table)

    def number(self, name: str, default: Any = ...) -> int:
        value = self.take(name, int, default)
        if value < 0:
            raise self.fail(name, f"must not be negative, it is {value}.")
        return int(value)

    def seconds(self, name: str, default: Any = ...) -> Any:
        """Take a time in seconds; a default is returned as it is."""
        return timedelta(seconds=self.number(name)) if name in self.table else default

    def days(self, name: str) -> timedelta | None:
        return timedelta(days=self.number(name)) if name in self.table else None

    def one_of(self, name: str, options: Iterable[str], default: Any = ...) -> str:
        value = self.text(name, default)
        if value not in options:
            known = ", ".join(f"'{option}'" for option in options)
            raise self.fail(name, f"is '{value}', but must be one of {known}.")
        return value

    def choice(self, name: str, options: type[Choice], default: Any = ...) -> Choice:
        return options(self.one_of(name, [option.value for option in options], default))

    def pattern(self, name: str) -> str:
        """Take a regular expression."""
        value = self.text(name, "")
        try:
            re.compile(value)
        except re.error as error:
            raise self.fail(name, f"is not a regular expression: {error}.") from None
        return value

    def url(self, name: str, default: Any = ...) -> str:
        value = self.text(name, default)
        if not value:
            return ""
        try:
            parts = urlsplit(value)
            is_whole = parts.hostname and parts.port != 0 and not parts.username and not parts.fragment
        except ValueError:
            is_whole = False
        if not is_whole or re.search(r"[\s\\]", value):
            raise self.fail(name, f"must be an address such as https://example.com/path, it is '{value}'.")
        if parts.scheme not in ({"https", "http"} if self.plain_http else {"https"}):
            raise self.fail(name, f"must begin with https://, it is '{value}'.")
        return value

    def child(self, name: str) -> Reader | None:
        """Go into a table, or return None where there is none."""
        table = self.take(name, dict, None)
        return None if table is None else self._nest(table, f"{self.where}{name}.")

    def required_child(self, name: str) -> Reader:
        """Go into a table that must be there."""
        child = self.child(name)
        if child is None:
            raise self.fail(f"[{name}]", "is missing; the file needs this table.")
        return child

    def children(self, name: str) -> list[Reader]:
        """Go into a list of tables."""
        return [
            self._nest(table, f"{self.where}{name}[{number}].")
            for number, table in enumerate(self.take(name, list, []), 1)
        ]

    def _nest(self, table: Any, where: str) -> Reader:
        if not isinstance(table, dict):
            raise CatalogError(f"{self.file}: {where.rstrip('.')} must be a table, it is {table!r}.")
        reader = Reader(self.file, table, where, plain_http=self.plain_http)
        self._children.append(reader)
        return reader

    def finish(self) -> None:
        """Complain of the first field that nobody took."""
        if self.table:
            raise self.fail(next(iter(self.table)), "is not a field that the catalog knows; is it misspelt?")
        for child in self._children:
            child.finish()
