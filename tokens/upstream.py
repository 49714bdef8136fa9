"""End tokens at their provider, where it has a way for that (RFC 7009), and try again where it does not answer.

What is to be ended is written down, sealed, in the transaction that takes the grant back, or that erases it with its
provider; so a provider that is down, or a process that is killed, delays it and loses nothing. It is erased as soon as
the provider has ended it, and after a day of trying.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from portal.encryption import UnreadableError, seal, unseal
from portal.instance import is_foreign
from portal.propose import propose
from providers import http, oauth
from providers.answers import retry_after
from providers.catalog_loader import UnknownProviderError, catalog
from providers.messages import Credentials
from providers.oauth import Answer, NoAnswer
from tokens.clock import database_now
from tokens.models import Grant, GrantTokens, UpstreamRevocation

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection, Sequence

    from providers.models import ProviderConfig
    from providers.oauth import OutgoingRequest

ENDED_UPSTREAM = "ended at the provider"
# The original still uses the token. If the copy is adopted, it is asked for what waits.
FOREIGN = "not asked, since this is a copy of the database"
UNREADABLE = "there was no readable token to end"
# Between two tries; after the last one we give up.
PAUSES: Sequence[timedelta] = [
    timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 3 * 60, 6 * 60, 12 * 60)
]
# Whoever tries one has it to himself for so long.
LEASE = timedelta(minutes=5)
# How long one round of tries may take.
BUDGET = timedelta(seconds=60)
# Between these is how long a provider is left alone that asks us to slow down (429), which is no try for so long.
SHORTEST_WAIT, LONGEST_WAIT = timedelta(seconds=2), timedelta(seconds=30)
PATIENCE = timedelta(days=3)
# How long a provider is left alone that gives no answer, and how long a token is kept for it at most.
SILENCE = timedelta(minutes=15)
KEPT_AT_MOST = timedelta(days=7)
# So many are taken at once, and so many asked about at a time: a deleted provider may leave a hundred thousand. If each
# of them hangs until its time-out, a batch is still done within the lease.
BATCH, AT_A_TIME = 40, 8
GROUP = 1000
TASK = "tokens.tasks.end_upstream"

_TAKE = """
UPDATE tokens_upstreamrevocation SET next_try_at = statement_timestamp() + %(lease)s
WHERE id = ANY(ARRAY(
    SELECT id FROM tokens_upstreamrevocation WHERE next_try_at <= statement_timestamp()
        AND NOT coalesce(provider_config_id = ANY(%(left_alone)s::uuid[]), false)
    ORDER BY next_try_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
))
RETURNING id
"""


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


def write_down_all(config: ProviderConfig) -> None:
    """Note, in the transaction that erases a configuration, what must be ended of it, so that it can be done without it.

    Its grants must be locked. Nothing stays where the provider has no way, or could not be asked.
    """
    waiting = UpstreamRevocation.objects.filter(provider_config=config)
    if not config.can_be_told_to_end:
        waiting.delete()
        return
    for row in waiting.filter(client=None).iterator(chunk_size=GROUP):
        _take_along(row, config)
        # Not `save`: it may be ended, and gone, just now.
        waiting.filter(pk=row.pk).update(provider_id=row.provider_id, client=row.client)
    tokens = GrantTokens.objects.filter(grant__provider_config=config).select_related("grant").order_by("pk")
    last: uuid.UUID | None = None
    while group := list((tokens.filter(pk__gt=last) if last else tokens)[:GROUP]):
        last = group[-1].pk
        readable = [(given.pk, token) for given in group if (token := token_to_end(given))]
        UpstreamRevocation.objects.bulk_create(
            _order_on_its_own(config, grant_id, token) for grant_id, token in readable
        )


def write_down_late(config: ProviderConfig, grant_id: uuid.UUID, token: str) -> None:
    """Note that a token must be ended which the provider made for a grant that is erased by now."""
    if config.can_be_told_to_end:
        _order_on_its_own(config, grant_id, token).save(force_insert=True)


def _order_on_its_own(config: ProviderConfig, grant_id: uuid.UUID, token: str) -> UpstreamRevocation:
    row = UpstreamRevocation(
        application_id=config.application_id, provider_config_id=config.pk, grant_id=grant_id
    )
    _take_along(row, config)
    seal(row, "token", token)
    return row


def _take_along(row: UpstreamRevocation, config: ProviderConfig) -> None:
    row.provider_id, credentials = config.provider_id, config.credentials()
    seal(row, "client", json.dumps([credentials.client_id, credentials.client_secret]))


def token_to_end(tokens: GrantTokens) -> str | None:
    """Return the token whose end ends the grant; None where none can be read."""
    try:
        return unseal(tokens, "refresh_token") or unseal(tokens, "access_token")
    except UnreadableError:
        return None


def try_to_end(row: UpstreamRevocation) -> str:
    """Ask the provider once, and return in words what it answered, for now or for good."""
    if is_foreign():
        return FOREIGN
    request = _request_of(row)
    return _settle(row, request if isinstance(request, str) else http.send_blocking(request))


def retry_due(*, budget: timedelta = BUDGET) -> timedelta | None:
    """Try what is due, for about `budget`. Return after how long to go on, or None if there is nothing to go on with.

    Doing it twice at once is harmless. A provider that asks us to slow down is left alone for the rest of the round, and
    one that gives no answer for longer, as it may take all of a round to say nothing: neither holds up another.
    """
    if is_foreign():
        return None
    stop = time.monotonic() + budget.total_seconds()
    left_alone: dict[uuid.UUID | None, timedelta] = {}
    with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="upstream") as threads:
        while taken := _take(left_alone):
            if time.monotonic() > stop:
                UpstreamRevocation.objects.filter(pk__in=[row.pk for row in taken]).update(next_try_at=Now())
                return timedelta(0)
            asked = []
            for row in taken:
                request = _request_of(row)
                asked.append(
                    request if isinstance(request, str) else threads.submit(http.send_blocking, request)
                )
            answers: dict[uuid.UUID | None, list[Answer | NoAnswer | str]] = {}
            for row, future in zip(taken, asked, strict=True):
                answer = future if isinstance(future, str) else future.result()
                said = _settle(row, answer)
                Grant.objects.filter(pk__in=[row.grant_id]).update(upstream_revocation=said[:200])
                answers.setdefault(row.provider_config_id, []).append(answer)
            for config_id, came in answers.items():
                if wait := max(map(_asked_to_wait, came)):
                    left_alone[config_id] = wait
                elif all(isinstance(answer, NoAnswer) for answer in came):
                    due = UpstreamRevocation.objects.filter(next_try_at__lte=Now())
                    due.filter(provider_config_id=config_id).update(next_try_at=Now() + SILENCE)
    return min(left_alone.values(), default=None)


def give_up_old() -> None:
    """Erase what has waited too long: if a provider with many connections is gone, they are not all tried in time."""
    if is_foreign():
        return
    old = UpstreamRevocation.objects.filter(created_at__lt=Now() - KEPT_AT_MOST)
    Grant.objects.filter(pk__in=old.values("grant_id")).update(
        upstream_revocation=f"the provider did not end it in {KEPT_AT_MOST.days} days; we gave up"
    )
    old.delete()


def hint(after: timedelta = timedelta(0)) -> None:
    """Have a worker try what is due, if anything is by then, before housekeeping comes round."""
    if UpstreamRevocation.objects.filter(next_try_at__lte=Now() + after).exists():
        propose(TASK, expires=settings.PROPOSAL_LIFE_S, after=after)


def _take(left_alone: Collection[uuid.UUID | None]) -> list[UpstreamRevocation]:
    """Take what is due for the lease, the longest overdue first."""
    values: dict[str, Any] = {
        "lease": LEASE,
        "limit": BATCH,
        "left_alone": [pk for pk in left_alone if pk is not None],
    }
    with connection.cursor() as cursor:
        cursor.execute(_TAKE, values)
        ids = [pk for (pk,) in cursor.fetchall()]
    rows = UpstreamRevocation.objects.select_related("provider_config__application")
    return list(rows.filter(pk__in=ids)) if ids else []


def _request_of(row: UpstreamRevocation) -> OutgoingRequest | str:
    """Return what to ask, or in words why nothing can be asked."""
    try:
        token = unseal(row, "token")
        if client := unseal(row, "client"):
            return _request(row.provider_id, Credentials(*json.loads(client)), token)
        if row.provider_config is None:  # Deleted by other hands than ours.
            return "the provider could not be asked"
        return _request(row.provider_config.provider_id, row.provider_config.credentials(), token)
    except UnreadableError:
        return UNREADABLE


def _settle(row: UpstreamRevocation, answer: Answer | NoAnswer | str) -> str:
    """Erase what is ended or hopeless, plan the next try of everything else, and return what to say of it."""
    said = answer if isinstance(answer, str) else _said(answer)
    now, mine = database_now(), UpstreamRevocation.objects.filter(pk=row.pk)
    wait = _asked_to_wait(answer)
    if wait and now - row.created_at < PATIENCE:
        # That was no try: it was not looked at.
        mine.update(next_try_at=now + wait)
        return f"{said}; we try again"
    is_last = row.tries >= len(PAUSES)
    if said == ENDED_UPSTREAM or is_last:
        mine.delete()
        return said if said == ENDED_UPSTREAM else f"{said}; we gave up after {row.tries + 1} tries"
    mine.update(tries=row.tries + 1, next_try_at=now + PAUSES[row.tries])
    return f"{said}; we try again"


def _asked_to_wait(answer: Answer | NoAnswer | str) -> timedelta:
    if not isinstance(answer, Answer) or answer.status != 429:
        return timedelta(0)
    return max(retry_after(answer, most=LONGEST_WAIT) or SHORTEST_WAIT, SHORTEST_WAIT)


def why_not(config: ProviderConfig, token: str | None) -> str:
    """Say in words why a grant is not ended at its provider, where nothing was written down for it."""
    try:
        request = _request(config.provider_id, config.credentials(), token)
    except UnreadableError:
        return "the provider could not be asked"
    assert isinstance(request, str)
    return request


def _request(provider_id: str, credentials: Credentials, token: str | None) -> OutgoingRequest | str:
    try:
        spec = catalog()[provider_id]
    except UnknownProviderError:
        return "the provider could not be asked"
    if spec.revoke is None:
        return f"{spec.name} has no way for us to end it there"
    if token is None:
        return UNREADABLE
    request = oauth.revoke_request(spec, credentials, token=token)
    assert request is not None
    return request


def _said(answer: Answer | NoAnswer) -> str:
    if isinstance(answer, Answer):
        # RFC 7009 section 2.2: 200 also for a token that was unknown.
        return (
            ENDED_UPSTREAM if answer.status == 200 else f"the provider answered with status {answer.status}"
        )
    return f"the provider gave no answer ({answer.reason})"
