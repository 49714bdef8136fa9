"""What a caller may send, declared field by field, and read by name.

One declaration does both: it refuses what does not fit, and it is what the OpenAPI document says. A field that an
operation does not declare is refused by its name (D7).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core.exceptions import RequestDataTooBig

from tokens.api.problems import BadFieldError, NotJsonError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from django.http import HttpRequest

# Bytes of a body, unless an operation says otherwise.
MAX_BODY = 64 * 1024
METHODS_WITH_BODY = ("POST", "PATCH", "PUT")


def body_of(request: HttpRequest, *, most: int = MAX_BODY) -> bytes:
    """Return the body as it came. Raises TooLargeError."""
    try:
        body = request.body
    except RequestDataTooBig:
        raise TooLargeError from None
    if len(body) > most:
        raise TooLargeError
    return body


def wrong(name: str, text: str) -> BadFieldError:
    """Return the error that names a field and says what is wrong with it."""
    return BadFieldError(f"“{name}” {text}", field=name)


@dataclass(frozen=True, kw_only=True)
class Field:
    """One thing that may be sent. `about` is a sentence for the document."""

    about: str
    is_required: bool = False
    default: Any = None

    def read(self, name: str, value: Any) -> Any:
        """Return what a value means. Raises BadFieldError, which names the field."""
        raise NotImplementedError

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {**self.kind(), "description": self.about}

    def kind(self) -> dict[str, Any]:
        """Return the part of the schema that the values follow."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Text(Field):
    """Printable characters, without blanks around them; empty only where `least` is 0."""

    least: int = 1
    most: int = 200
    default: str = ""

    def read(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or len(value) > self.most or not value.isprintable():
            raise wrong(name, f"must be text of at most {self.most} printable characters.")
        if self.least and not value.strip():
            raise wrong(name, "is empty.")
        return value.strip()

    def kind(self) -> dict[str, Any]:
        return {"type": "string", "minLength": self.least, "maxLength": self.most}


@dataclass(frozen=True, kw_only=True)
class Texts(Field):
    """A list of texts."""

    most: int = 200

    def read(self, name: str, value: Any) -> list[str]:
        if (
            not isinstance(value, list)
            or len(value) > self.most
            or not all(isinstance(item, str) and item.isprintable() and len(item) <= 200 for item in value)
        ):
            raise wrong(name, f"must be a list of at most {self.most} texts.")
        return value

    def kind(self) -> dict[str, Any]:
        return {"type": "array", "items": {"type": "string", "maxLength": 200}, "maxItems": self.most}


@dataclass(frozen=True, kw_only=True)
class Number(Field):
    """A whole number, in a query or in JSON."""

    least: int = 0
    most: int
    default: int | None = None

    def read(self, name: str, value: Any) -> int:
        number = value if type(value) is int else -1
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
            number = int(value)
        if not self.least <= number <= self.most:
            raise wrong(name, f"must be a whole number from {self.least} to {self.most}.")
        return number

    def kind(self) -> dict[str, Any]:
        kind: dict[str, Any] = {"type": "integer", "minimum": self.least, "maximum": self.most}
        return kind if self.default is None else {**kind, "default": self.default}


@dataclass(frozen=True, kw_only=True)
class Choice(Field):
    """One of some words."""

    options: tuple[str, ...]
    default: str = ""

    def read(self, name: str, value: Any) -> str:
        if value not in self.options:
            raise wrong(name, f"must be one of {', '.join(self.options)}.")
        return str(value)

    def kind(self) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.options)}


@dataclass(frozen=True, kw_only=True)
class Flag(Field):
    """True or false, in JSON."""

    default: bool = False

    def read(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise wrong(name, "must be true or false.")
        return value

    def kind(self) -> dict[str, Any]:
        return {"type": "boolean", "default": self.default}


@dataclass(frozen=True, kw_only=True)
class Notes(Field):
    """A flat object of texts, which means nothing to us."""

    most: int = 50
    longest_name: int = 40
    longest_text: int = 500

    def read(self, name: str, value: Any) -> dict[str, str]:
        if not isinstance(value, dict) or len(value) > self.most:
            raise wrong(name, f"must be an object of at most {self.most} texts.")
        for key, text in value.items():
            if not key.strip() or len(key) > self.longest_name or not key.isprintable():
                raise wrong(name, f"has a name that is empty or longer than {self.longest_name} characters.")
            if not isinstance(text, str) or len(text) > self.longest_text or not text.isprintable():
                raise wrong(
                    name, f"must hold texts of at most {self.longest_text} printable characters: see “{key}”."
                )
        return value

    def kind(self) -> dict[str, Any]:
        return {
            "type": "object",
            "maxProperties": self.most,
            "propertyNames": {"minLength": 1, "maxLength": self.longest_name},
            "additionalProperties": {"type": "string", "maxLength": self.longest_text},
        }


@dataclass(frozen=True, kw_only=True)
class Rows(Field):
    """A list of objects. Each is read by itself, by whoever takes it: one wrong row does not spoil the others."""

    row: Mapping[str, Field]
    most: int

    def read(self, name: str, value: Any) -> list[dict[str, Any]]:
        if (
            not isinstance(value, list)
            or not 1 <= len(value) <= self.most
            or not all(isinstance(row, dict) for row in value)
        ):
            raise wrong(name, f"must be a list of 1 to {self.most} objects.")
        return value

    def kind(self) -> dict[str, Any]:
        return {
            "type": "array",
            "minItems": 1,
            "maxItems": self.most,
            "items": {
                "type": "object",
                "properties": {name: field.schema() for name, field in self.row.items()},
                "required": [name for name, field in self.row.items() if field.is_required],
                "additionalProperties": False,
            },
        }


class Fields:
    """The fields of one request, all of them known and read."""

    def __init__(self, given: Mapping[str, Any], takes: Mapping[str, Field]) -> None:
        self._takes = takes
        for name in given:
            if name not in takes:
                raise wrong(name[:80], f"is not a field of this call; {_taken(takes)}.")
        self._given = {name: takes[name].read(name, value) for name, value in given.items()}
        for name, field in takes.items():
            if field.is_required and name not in given:
                raise wrong(name, "is missing.")

    def given(self, name: str) -> Any:
        """Return what was sent, or None where nothing was."""
        return self._given.get(name)

    def __getitem__(self, name: str) -> Any:
        return self._given[name] if name in self._given else self._takes[name].default

    @classmethod
    def of(cls, request: HttpRequest, takes: Mapping[str, Field], *, most: int = MAX_BODY) -> Fields:
        """Read a query, or the JSON body of a method that has one. Raises BadFieldError, NotJsonError or TooLargeError."""
        if request.method not in METHODS_WITH_BODY:
            for name, given in request.GET.lists():
                if len(given) > 1:
                    raise wrong(name[:80], "is given more than once.")
            return cls(request.GET.dict(), takes)
        for name in request.GET:
            raise wrong(name[:80], "is in the address; send it in the JSON body.")
        body = body_of(request, most=most)
        # Of what needs no fields, no body is needed either.
        if not body and not any(field.is_required for field in takes.values()):
            return cls({}, takes)
        if request.content_type != "application/json":
            raise NotJsonError
        return cls(json_object(body), takes)


def json_object(body: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises NotJsonError, and BadFieldError for a name that comes twice."""
    try:
        values = json.loads(body, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        raise NotJsonError from None
    if not isinstance(values, dict):
        raise NotJsonError
    return values


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Two readers of one body must not see two different things.
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise wrong(name[:80], "is given more than once.")
        found[name] = value
    return found


def _taken(takes: Collection[str]) -> str:
    return f"it takes {', '.join(sorted(takes))}" if takes else "it takes none"
