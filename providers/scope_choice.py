"""The scopes of a provider as a form shows them: what is chosen, in which group, and where the console lists it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Collection

    from providers.spec import ProviderSpec, Scope, ScopeGroup


@dataclass(frozen=True)
class Row:
    """One scope with its tick."""

    scope: Scope
    is_chosen: bool


@dataclass(frozen=True)
class Group:
    """Some scopes of one product."""

    id: str
    name: str
    rows: tuple[Row, ...]

    @property
    def chosen(self) -> int:
        """Return how many are ticked."""
        return sum(row.is_chosen for row in self.rows)


@dataclass(frozen=True)
class ConsoleList:
    """What to tick on one page of the provider's console."""

    group_id: str
    name: str
    scopes: tuple[str, ...]


@dataclass(frozen=True)
class ScopeChoice:
    """All scopes of a provider: the common ones, the others to unfold, and the console's view of the chosen ones."""

    common: tuple[Group, ...]
    more: tuple[Group, ...]
    console: tuple[ConsoleList, ...]
    warning_at: int

    @classmethod
    def of(cls, spec: ProviderSpec, chosen: Collection[str]) -> Self:
        """Show a provider's scopes; the required ones are always chosen."""
        common, more, console = [], [], []
        for group in spec.scope_groups:
            rows = tuple(
                Row(scope, is_chosen=scope.is_required or scope.name in chosen) for scope in group.scopes
            )
            common.append(Group(group.id, group.name, tuple(row for row in rows if not row.scope.is_more)))
            more.append(Group(group.id, group.name, tuple(row for row in rows if row.scope.is_more)))
            console.append(_console_list(group, rows))
        return cls(
            common=tuple(group for group in common if group.rows),
            more=tuple(group for group in more if group.rows),
            console=tuple(console),
            warning_at=spec.scope_warning_at,
        )

    @property
    def count(self) -> int:
        """Return how many scopes are chosen."""
        return sum(group.chosen for group in (*self.common, *self.more))

    @property
    def chosen_groups(self) -> list[Group]:
        """Return the chosen scopes alone, by product."""
        groups = [
            Group(group.id, group.name, tuple(row for row in group.rows if row.is_chosen))
            for group in (*self.common, *self.more)
        ]
        return [group for group in groups if group.rows]

    @property
    def is_more_open(self) -> bool:
        """Tell whether one of the folded ones is chosen, so that it must not be hidden."""
        return any(group.chosen for group in self.more)

    @property
    def is_near_limit(self) -> bool:
        """Tell whether the provider's recommended number is nearly reached."""
        return bool(self.warning_at) and self.count >= self.warning_at


def _console_list(group: ScopeGroup, rows: tuple[Row, ...]) -> ConsoleList:
    names = tuple(row.scope.name for row in rows if row.is_chosen and row.scope.needs_console)
    return ConsoleList(group.id, group.console_name or group.name, names)
