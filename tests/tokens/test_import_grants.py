"""Looking at what was imported; the import itself is shown in tests/tokens/api/test_transfer.py."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from tokens import import_grants
from tokens.clock import database_now
from tokens.import_grants import look_at_imported

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tokens.models import Grant

FIRST, LAST = uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)


def imported(connect: Callable[..., Grant], pk: uuid.UUID, **fields: object) -> Grant:
    return connect(pk=pk, end_user=f"user-{pk}", gen=1, undiscovered_since=database_now(), **fields)


def test_what_cannot_be_looked_at_keeps_nothing_else_waiting(
    connect: Callable[..., Grant], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_grants, "BATCH", 1)
    # Without the scope that shows whose it is.
    stuck = imported(connect, FIRST, granted_scopes=["read:jira-work"])
    other = imported(connect, LAST)

    assert look_at_imported() == 1

    for grant in (stuck, other):
        grant.refresh_from_db()
    assert stuck.undiscovered_since is not None
    assert other.undiscovered_since is None


def test_looking_ends_in_time_for_other_work(
    connect: Callable[..., Grant], monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(connect, LAST)
    monkeypatch.setattr(import_grants, "BUDGET", timedelta(seconds=-1))

    assert look_at_imported() == 0
