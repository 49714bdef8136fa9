"""Keep a copy of the database from spending the original's refresh tokens.

Refresh tokens rotate: whoever spends one first has the only good one. So a database notes which installation it belongs
to (`INSTANCE_ID`, a random word in the environment, kept apart from the database). A restored backup or a staging copy
with another id may be read, and refreshes nothing, until `manage.py adopt_instance` says that it is the one now.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django.conf import settings
from django.db.models import Exists, Value

from portal.models import Instance

if TYPE_CHECKING:
    from django.db.models import QuerySet

# How long an answer is believed, in seconds: every page asks.
MEMORY = 15.0
_answer: tuple[float, str, bool] | None = None


def note_first_start() -> None:
    """Write this installation's id into a database that has none yet."""
    if settings.INSTANCE_ID:
        Instance.objects.bulk_create([Instance(instance_id=settings.INSTANCE_ID)], ignore_conflicts=True)


def is_foreign() -> bool:
    """Tell whether the database belongs to another installation; without INSTANCE_ID nothing is compared."""
    if not settings.INSTANCE_ID:
        return False
    if _answer is None or _answer[0] < time.monotonic() or _answer[1] != settings.INSTANCE_ID:
        remember(is_foreign=_others().exists())
    return _answer is not None and _answer[2]


def foreign() -> Exists | Value:
    """Return the same as an expression, for a statement that is made anyway: see `remember`."""
    return Exists(_others()) if settings.INSTANCE_ID else Value(value=False)


def remember(*, is_foreign: bool) -> None:
    """Believe this for a while."""
    global _answer  # noqa: PLW0603 - a memory of seconds, so that no page pays a statement for it
    _answer = (time.monotonic() + MEMORY, settings.INSTANCE_ID, is_foreign)


def _others() -> QuerySet[Instance]:
    return Instance.objects.exclude(instance_id=settings.INSTANCE_ID)


def adopt() -> None:
    """Make this installation the one that refreshes with this database."""
    global _answer  # noqa: PLW0603
    Instance.objects.update_or_create(id=1, defaults={"instance_id": settings.INSTANCE_ID})
    _answer = None
