"""How many connections an application has, by what they are."""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.core.cache import cache
from django.db.models import Count, Q
from django.db.models.functions import Now
from redis.exceptions import RedisError

from tokens import browse
from tokens.models import Grant, GrantStatus
from tokens.results import UNREADABLE

if TYPE_CHECKING:
    from portal.models import Application
    from providers.models import ProviderConfig

WEEK = dt.timedelta(days=7)
# An application with more connections than this is counted whole once in so many seconds.
LARGE = 50_000
KEEP_S = 60


@dataclass(frozen=True)
class ConnectionCounts:
    """Connections by what they are, at one moment."""

    alive: int
    working: int
    failing: int
    unreadable: int
    ending: int
    pending: int
    needs_reconnect: int
    this_week: int
    ever: int


def count_connections(application: Application, configs: list[ProviderConfig]) -> ConnectionCounts:
    """Count in one statement, however many there are.

    The exact numbers of a large application cost a scan (a second and a half for a million), so they are taken once a
    minute. What somebody has to do something about is always counted: it is little, and has small indexes.
    """
    # By the ids that we have, so that the scan needs no join.
    running = [config.pk for config in configs if config.is_working]
    active = Q(status=GrantStatus.ACTIVE)
    alive = ~Q(status=GrantStatus.REVOKED)
    is_running = active & Q(provider_config__in=running)
    few = {
        "failing": Count("pk", filter=is_running & ~Q(fail_outcome__in=["", UNREADABLE])),
        "unreadable": Count("pk", filter=is_running & Q(fail_outcome=UNREADABLE)),
        "pending": Count("pk", filter=Q(status=GrantStatus.PENDING)),
        "needs_reconnect": Count("pk", filter=Q(status=GrantStatus.NEEDS_RECONNECT)),
    }
    many = {
        "alive": Count("pk", filter=alive),
        "working": Count("pk", filter=is_running & Q(fail_outcome="")),
        "ending": Count("pk", filter=browse.ENDING),
        "this_week": Count("pk", filter=alive & Q(connected_at__gte=Now() - WEEK)),
        "ever": Count("pk"),
    }
    ours = Grant.objects.visible_to(application)
    key = f"connections:{application.pk}:{'.'.join(sorted(pk.hex for pk in running))}"
    kept = _recall(key)
    if kept is not None:
        found = ours.filter(
            Q(status__in=[GrantStatus.PENDING, GrantStatus.NEEDS_RECONNECT]) | (active & ~Q(fail_outcome=""))
        ).aggregate(**few)
        return ConnectionCounts(**kept, **found)
    found = ours.aggregate(**few, **many)
    if found["ever"] > LARGE:
        _keep(key, {name: found[name] for name in many})
    return ConnectionCounts(**found)


def _recall(key: str) -> dict[str, int] | None:
    """Return what was counted lately, if that was kept and the cache is there."""
    with suppress(RedisError):
        kept: dict[str, int] | None = cache.get(key)
        return kept
    return None


def _keep(key: str, counted: dict[str, int]) -> None:
    with suppress(RedisError):
        cache.set(key, counted, KEEP_S)
