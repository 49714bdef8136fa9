"""Take connections out, with their refresh tokens: so that nobody is locked in.

The most dangerous thing that the portal does: whoever has the answer has the access. A rotating refresh token lives in
one place, so it leaves only where this portal has stopped refreshing it; otherwise the copy, or the original, would be
dead within the hour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from portal.audit import Actor, record
from portal.encryption import UnreadableError, unseal
from portal.models import Event
from providers.catalog_loader import catalog
from providers.spec import Rotation
from tokens.models import Grant, GrantTokens

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from providers.models import ProviderConfig

Problem = Literal["refresh_in_progress", "no_refresh_token", "unreadable_token"]
# Refresh tokens that go on working when another has been made.
LASTING = (Rotation.NONE, Rotation.STATIC, Rotation.KEEP_OLD)


def still_running(configs: Iterable[ProviderConfig]) -> list[str]:
    """Return the providers whose refresh tokens would be dead soon after they left: they are switched on and rotate."""
    return sorted(
        config.provider_id
        for config in configs
        if config.is_working
        and config.provider_id in catalog()
        and config.spec.refresh.rotation not in LASTING
    )


def take_out(grant: Grant, *, now: dt.datetime, actor: Actor) -> tuple[str | None, Problem | None]:
    """Return a connection's refresh token, or None and why, with its going on record, in the caller's transaction."""
    problem: Problem | None = None
    token: str | None = None
    if grant.claim_until and grant.claim_until > now:
        problem = "refresh_in_progress"
    else:
        try:
            tokens = GrantTokens.objects.filter(grant=grant).first()
            token = unseal(tokens, "refresh_token") if tokens else None
            problem = None if token else "no_refresh_token"
        except UnreadableError:
            problem = "unreadable_token"
    record(
        Event.GRANT_EXPORTED,
        actor=actor,
        application=grant.application,
        subject=grant,
        provider=grant.provider_config.provider_id,
        **({"problem": problem} if problem else {}),
    )
    return token, problem
