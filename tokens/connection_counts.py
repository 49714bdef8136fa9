"""How many connections an application has, by what they are."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Count, Q
from django.db.models.functions import Now

from tokens import browse
from tokens.models import Grant, GrantStatus
from tokens.results import UNREADABLE

if TYPE_CHECKING:
    from portal.models import Application
    from providers.models import ProviderConfig

WEEK = dt.timedelta(days=7)


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
    """Count in one statement."""
    # By the ids that we have, so that the scan needs no join.
    running = Q(provider_config__in=[config.pk for config in configs if config.is_working])
    active = Q(status=GrantStatus.ACTIVE)
    alive = ~Q(status=GrantStatus.REVOKED)
    return ConnectionCounts(
        **Grant.objects.visible_to(application).aggregate(
            alive=Count("pk", filter=alive),
            working=Count("pk", filter=active & running & Q(fail_outcome="")),
            failing=Count("pk", filter=active & running & ~Q(fail_outcome__in=["", UNREADABLE])),
            unreadable=Count("pk", filter=active & running & Q(fail_outcome=UNREADABLE)),
            ending=Count("pk", filter=browse.ENDING),
            pending=Count("pk", filter=Q(status=GrantStatus.PENDING)),
            needs_reconnect=Count("pk", filter=Q(status=GrantStatus.NEEDS_RECONNECT)),
            this_week=Count("pk", filter=alive & Q(connected_at__gte=Now() - WEEK)),
            ever=Count("pk"),
        )
    )
