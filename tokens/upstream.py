"""End tokens at their provider, where it has a way for that (RFC 7009), and try again where it does not answer.

What is to be ended is written down, sealed, in the transaction that takes the grant back; so a provider that is down,
or a process that is killed, delays it and loses nothing. It is erased as soon as the provider has ended it, and after
a day of trying.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from portal.encryption import UnreadableError, seal, unseal
from providers import http, oauth
from providers.catalog_loader import UnknownProviderError, catalog
from providers.oauth import Answer
from tokens.clock import database_now
from tokens.models import Grant, UpstreamRevocation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from providers.models import ProviderConfig

ENDED_UPSTREAM = "ended at the provider"
# Between two tries; after the last one we give up.
PAUSES: Sequence[timedelta] = [
    timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 3 * 60, 6 * 60, 12 * 60)
]
# Whoever tries one has it to himself for so long.
LEASE = timedelta(minutes=5)
# How long one round of tries may take.
BUDGET = timedelta(seconds=60)


def write_down(grant: Grant, token: str | None, *, after: timedelta = LEASE) -> UpstreamRevocation | None:
    """Note, in the caller's transaction, that a token must be ended; None where there is nothing to do.

    Needs the grant's configuration loaded. For so long (`after`) only the caller tries.
    """
    config = grant.provider_config
    if token is None or config.provider_id not in catalog() or config.spec.revoke is None:
        return None
    row = UpstreamRevocation(
        application_id=grant.application_id,
        provider_config=config,
        grant=grant,
        next_try_at=database_now() + after,
    )
    seal(row, "token", token)
    row.save(force_insert=True)
    return row


def try_to_end(row: UpstreamRevocation) -> str:
    """Ask the provider once, and return in words what it answered, for now or for good."""
    try:
        answer = end_upstream(row.provider_config, unseal(row, "token"))
    except UnreadableError:
        answer = "there was no readable token to end"
    is_last = row.tries >= len(PAUSES)
    if answer == ENDED_UPSTREAM or is_last:
        row.delete()
        return answer if answer == ENDED_UPSTREAM else f"{answer}; we gave up after {row.tries + 1} tries"
    pause = PAUSES[row.tries]
    UpstreamRevocation.objects.filter(pk=row.pk).update(
        tries=row.tries + 1, next_try_at=database_now() + pause
    )
    return f"{answer}; we try again"


def retry_due() -> None:
    """Try what is due, one after the other, for about BUDGET. Doing it twice at once is harmless."""
    stop = time.monotonic() + BUDGET.total_seconds()
    while time.monotonic() < stop:
        now = database_now()
        row = (
            UpstreamRevocation.objects.select_related("provider_config__application")
            .filter(next_try_at__lte=now)
            .order_by("next_try_at")
            .first()
        )
        if row is None:
            return
        mine = UpstreamRevocation.objects.filter(pk=row.pk, next_try_at=row.next_try_at)
        if mine.update(next_try_at=now + LEASE):
            said = try_to_end(row)
            Grant.objects.filter(pk=row.grant_id).update(upstream_revocation=said[:200])


def end_upstream(config: ProviderConfig, token: str | None) -> str:
    """Ask the provider to end a token (RFC 7009) and return in words what it answered; never raises for that."""
    try:
        spec = config.spec
        if spec.revoke is None:
            return f"{spec.name} has no way for us to end it there"
        if token is None:
            return "there was no readable token to end"
        request = oauth.revoke_request(spec, config.credentials(), token=token)
        assert request is not None
        answer = http.send_blocking(request)
    except (UnknownProviderError, UnreadableError):
        return "the provider could not be asked"
    if isinstance(answer, Answer):
        # RFC 7009 section 2.2: 200 also for a token that was unknown.
        return (
            ENDED_UPSTREAM if answer.status == 200 else f"the provider answered with status {answer.status}"
        )
    return f"the provider gave no answer ({answer.reason})"
