"""Delete a provider configuration with all its connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from portal.audit import record
from portal.models import Event
from providers.configure import disable
from providers.models import ProviderConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from portal.audit import Actor

# Called before anything is deleted, outside any transaction: apps above this one take back at the provider what they
# hold. They register in AppConfig.ready; one that raises stops the deletion.
before_delete: list[Callable[[ProviderConfig, Actor], None]] = []


def remove(config: ProviderConfig, *, actor: Actor) -> int:
    """Take connections back, then erase the configuration with all of them. Returns how many connections went.

    It is disabled first, so that nothing new comes in while tokens are taken back, or as little as can be.
    """
    disable(config, actor=actor)
    connections = config.live_grants().count()
    while True:
        for take_back in before_delete:
            take_back(config, actor)
        with transaction.atomic():
            # Nobody can store a connection of it from here on. An import may have done so just before.
            if not ProviderConfig.objects.select_for_update(of=("self",)).filter(pk=config.pk).exists():
                # By a second press of the button, which is told the same.
                return connections
            if config.grants.exists():
                continue
            record(
                Event.PROVIDER_DELETED,
                actor=actor,
                application=config.application,
                subject=config,
                connections=connections,
            )
            config.delete()
            return connections
