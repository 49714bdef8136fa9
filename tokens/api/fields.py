"""What a caller sent, taken by name. A field that an operation does not know is refused by its name (D7)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.exceptions import RequestDataTooBig

from tokens.api.problems import BadFieldError, NotJsonError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from django.http import HttpRequest

MAX_BODY = 64 * 1024


def body_of(request: HttpRequest) -> bytes:
    """Return the body as it came. Raises TooLargeError."""
    try:
        body = request.body
    except RequestDataTooBig:
        raise TooLargeError from None
    if len(body) > MAX_BODY:
        raise TooLargeError
    return body


class Fields:
    """The fields of one request, all of them known. Every method raises BadFieldError naming the field."""

    def __init__(self, values: Mapping[str, Any], known: Collection[str]) -> None:
        self.values = values
        for name in values:
            if name not in known:
                takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
                raise _wrong(name[:80], f"is not a field of this call; {takes}.")

    @classmethod
    def of(cls, request: HttpRequest, known: Collection[str]) -> Fields:
        """Read a GET's or DELETE's query, or a POST's JSON body. Raises BadFieldError or NotJsonError."""
        if request.method != "POST":
            for name, given in request.GET.lists():
                if len(given) > 1:
                    raise _wrong(name[:80], "is given more than once.")
            return cls(request.GET.dict(), known)
        for name in request.GET:
            raise _wrong(name[:80], "is in the address; send it in the JSON body.")
        if request.content_type != "application/json":
            raise NotJsonError
        try:
            values = json.loads(body_of(request))
        except (ValueError, RecursionError):
            raise NotJsonError from None
        if not isinstance(values, dict):
            raise NotJsonError
        return cls(values, known)

    def text(self, name: str, default: str | None = None, *, most: int = 200) -> str:
        """Return a text without surrounding blanks. Without a default it is required."""
        value = self.values.get(name, default)
        if value is None:
            raise _wrong(name, "is missing.")
        if not isinstance(value, str) or len(value) > most or not value.isprintable():
            raise _wrong(name, f"must be text of at most {most} printable characters.")
        if default is None and not value.strip():
            raise _wrong(name, "is empty.")
        return value.strip()

    def texts(self, name: str) -> list[str] | None:
        """Return a list of texts, or None where there is none."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(
            isinstance(item, str) and item.isprintable() for item in value
        ):
            raise _wrong(name, "must be a list of texts.")
        return value

    def number(self, name: str, default: int, *, least: int = 0, most: int) -> int:
        """Return a whole number from a query."""
        text = str(self.values.get(name, default))
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
        if not least <= number <= most:
            raise _wrong(name, f"must be a whole number from {least} to {most}.")
        return number

    def one_of(self, name: str, options: Collection[str]) -> str:
        """Return one of some words, or "" where nothing is said."""
        value = self.text(name, "")
        if value and value not in options:
            raise _wrong(name, f"must be one of {', '.join(options)}.")
        return value


def _wrong(name: str, text: str) -> BadFieldError:
    return BadFieldError(f"“{name}” {text}", field=name)
