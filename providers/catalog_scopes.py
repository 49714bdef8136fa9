"""Read the scopes of a catalog file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from providers.spec import Scope, ScopeGroup

if TYPE_CHECKING:
    from providers.catalog_reader import Reader


def read_groups(top: Reader, *, separator: str, forbidden: tuple[str, ...]) -> tuple[ScopeGroup, ...]:
    """Return the groups in the file's order. Raises CatalogError."""
    groups: list[ScopeGroup] = []
    names: set[str] = set()
    for reader in top.children("groups"):
        if not separator:
            raise top.fail("groups", "cannot be offered: authorize.scope_separator says there are no scopes.")
        group = ScopeGroup(
            id=reader.text("id"),
            name=reader.text("name"),
            console_name=reader.text("console", ""),
            is_product=reader.take("product", bool, True),
            scopes=tuple(_scope(scope) for scope in reader.children("scopes")),
        )
        if not re.fullmatch(r"[a-z0-9-]{1,40}", group.id) or any(group.id == other.id for other in groups):
            raise reader.fail("id", "must be small letters, digits and dashes, and no other group's.")
        for scope in group.scopes:
            if scope.name in names:
                raise reader.fail("scopes", f"has '{scope.name}', which stands in the file twice.")
            if scope.name in forbidden or separator in scope.name:
                raise reader.fail("scopes", f"has '{scope.name}', which is forbidden or holds the separator.")
            names.add(scope.name)
        groups.append(group)
    return tuple(groups)


def _scope(reader: Reader) -> Scope:
    scope = Scope(
        name=reader.text("name"),
        label=reader.text("label"),
        plain=reader.text("plain"),
        is_required=reader.take("required", bool, False),
        is_default=reader.take("default", bool, False),
        is_more=reader.take("more", bool, False),
        reason=reader.text("reason", ""),
        needs_console=reader.take("console", bool, True),
    )
    if not re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}", scope.name):
        raise reader.fail(
            "name", f"is '{scope.name}', but must be visible ASCII without quotes (RFC 6749 A.4)."
        )
    if scope.is_required and not scope.reason:
        raise reader.fail("reason", "is missing; people are told why the scope is required.")
    return scope
