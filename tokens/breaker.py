"""Tell a fault of the provider or of its configuration from a fault of a grant.

A configuration that is refused, or does not get through several times in a row, is tried with one grant from time to
time until it answers again; its grants wait. When that happens to several configurations of a provider and to none of
it anything else, the provider itself is tried so, for all of them together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connection
from django.db.models import F
from django.db.models.functions import Greatest, Now

from providers.models import STOPPING_PROBLEMS, ProviderConfig, ProviderHealth
from providers.oauth import Failure
from providers.spec import Outcome
from tokens import guard
from tokens.schedule import THROTTLED_PAUSE

if TYPE_CHECKING:
    import uuid

    from tokens.results import Committed, Result

# So many failures in a row, with no success between them, are the provider's and not the grants'.
BREAK_AFTER = 5
# The same for all configurations of a provider together, if so many of them have seen some.
BREAK_PROVIDER_AFTER = 10
CONFIGS_BEFORE_PROVIDER = 2

# Everything that a commit may write about configurations and providers is locked in one order: by everybody, before any
# of it is written, configurations first. A configuration that is well is written only if it was not.
_LOCK = """
WITH configs AS MATERIALIZED (
    SELECT id FROM providers_providerconfig
    WHERE id = ANY(%(failed)s) OR (id = ANY(%(configs)s) AND (misses_in_a_row > 0 OR refused_in_a_row > 0))
    ORDER BY id FOR NO KEY UPDATE
)
SELECT FROM providers_providerhealth
WHERE (SELECT count(*) FROM configs) >= 0 AND (provider_id = ANY(%(missed)s)
    OR (provider_id = ANY(%(providers)s) AND (misses_in_a_row > 0 OR opened_at IS NOT NULL)))
ORDER BY provider_id FOR NO KEY UPDATE
"""
_WELL = """
WITH configs AS (
    UPDATE providers_providerconfig SET misses_in_a_row = 0, refused_in_a_row = 0
    WHERE id = ANY(%(configs)s) AND (misses_in_a_row > 0 OR refused_in_a_row > 0)
)
UPDATE providers_providerhealth SET misses_in_a_row = 0, opened_at = NULL
WHERE provider_id = ANY(%(providers)s) AND (misses_in_a_row > 0 OR opened_at IS NOT NULL)
"""
_PROVIDER_MISSED = """
INSERT INTO providers_providerhealth (provider_id, misses_in_a_row) VALUES (%(provider)s, %(missed)s)
ON CONFLICT (provider_id) DO UPDATE
SET misses_in_a_row = providers_providerhealth.misses_in_a_row + excluded.misses_in_a_row
"""
_OPEN_PROVIDER = """
UPDATE providers_providerhealth SET opened_at = clock_timestamp()
WHERE provider_id = %(provider)s AND opened_at IS NULL AND misses_in_a_row >= %(enough)s
    AND (SELECT count(*) FROM (SELECT FROM providers_providerconfig
        WHERE provider_id = %(provider)s AND misses_in_a_row > 0 LIMIT %(configs)s) c) >= %(configs)s
"""


def note_health(results: list[Result], done: dict[uuid.UUID, Committed]) -> None:
    """Tell the admin once when a configuration stops working, and once when it works again (B9)."""
    by_config: dict[uuid.UUID, list[Result]] = {}
    for result in results:
        by_config.setdefault(result.config.pk, []).append(result)
    _lock(results, done)
    well = []
    for mine in by_config.values():
        outcomes = [done[result.claim.grant_id].outcome for result in mine]
        for holder in {done[result.claim.grant_id].held_by for result in mine} - {""}:
            guard.hold(mine[0].config, by=holder)
        if Outcome.THROTTLED in outcomes:
            _pause(mine)
        if Outcome.CLIENT_BAD in outcomes:
            # Nothing was sent where our own copy of the secret could not be read.
            was_sent = any(
                result.sent is not None
                for result, outcome in zip(mine, outcomes, strict=True)
                if outcome == Outcome.CLIENT_BAD
            )
            mine[0].config.note_problem("client_refused" if was_sent else "secret_unreadable")
        elif Outcome.OK in outcomes:
            well.append(mine[0].config)
            _note_recovery(mine, outcomes)
        else:
            missed = sum(outcome in (Outcome.NOT_SENT, Outcome.AMBIGUOUS) for outcome in outcomes)
            if missed:
                _note_misses(mine[0].config, missed)
            refused = sum(
                outcome == Outcome.GRANT_DEAD and result.sent is not None
                for result, outcome in zip(mine, outcomes, strict=True)
            )
            guard.note_refusals(mine[0].config, refused)
    if well:
        with connection.cursor() as cursor:
            params: dict[str, Any] = {
                "configs": [config.pk for config in well],
                "providers": [config.provider_id for config in well],
            }
            cursor.execute(_WELL, params)


def _lock(results: list[Result], done: dict[uuid.UUID, Committed]) -> None:
    missed = (Outcome.NOT_SENT, Outcome.AMBIGUOUS)
    failing, missing = [], []
    for result in results:
        committed = done[result.claim.grant_id]
        # One that is accepted after all may release what was held.
        is_accepted = committed.outcome == Outcome.OK and result.claim.was_refused
        if committed.outcome != Outcome.OK or is_accepted:
            failing.append(result.config.pk)
        if committed.outcome in missed or committed.held_by == guard.PROVIDER or is_accepted:
            missing.append(result.config.provider_id)
    params: dict[str, Any] = {
        "failed": failing,
        "configs": [result.config.pk for result in results],
        "missed": missing,
        "providers": [result.config.provider_id for result in results],
    }
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, params)


def _note_recovery(results: list[Result], outcomes: list[str]) -> None:
    """Say that it works again, if a call that was begun while it did not has brought a token."""
    claims = [
        result.claim for result, outcome in zip(results, outcomes, strict=True) if outcome == Outcome.OK
    ]
    if any(claim.config_problem in STOPPING_PROBLEMS for claim in claims):
        results[0].config.note_recovery()
    if any(claim.was_refused for claim in claims):
        guard.release(results[0].config)


def _note_misses(config: ProviderConfig, missed: int) -> None:
    ProviderConfig.objects.filter(pk=config.pk).update(misses_in_a_row=F("misses_in_a_row") + missed)
    if ProviderConfig.objects.filter(pk=config.pk, misses_in_a_row__gte=BREAK_AFTER).exists():
        config.note_problem("unreachable")
    params: dict[str, Any] = {
        "provider": config.provider_id,
        "missed": missed,
        "enough": BREAK_PROVIDER_AFTER,
        "configs": CONFIGS_BEFORE_PROVIDER,
    }
    with connection.cursor() as cursor:
        cursor.execute(_PROVIDER_MISSED, params)
        cursor.execute(_OPEN_PROVIDER, params)


def _pause(results: list[Result]) -> None:
    """Leave a configuration alone for as long as the provider asked, or for a while where it named no time."""
    waits = [
        result.came_to.retry_after or THROTTLED_PAUSE
        for result in results
        if isinstance(result.came_to, Failure) and result.came_to.outcome is Outcome.THROTTLED
    ]
    # A shorter wait does not end a longer one.
    ProviderConfig.objects.filter(pk=results[0].config.pk).update(
        paused_until=Greatest("paused_until", Now() + max(waits))
    )


def tell_everybody() -> None:
    """Bring the notes of configurations in line with their provider's breaker: one at a time, each with its event.

    A configuration that had no call of its own while the provider was down must learn of it, and of the end.
    """
    down = ProviderHealth.objects.filter(opened_at__isnull=False).values("provider_id")
    configs = ProviderConfig.objects.select_related("application")
    unaware = configs.filter(provider_id__in=down, is_enabled=True, application__archived_at=None)
    for config in unaware.exclude(problem_code__in=STOPPING_PROBLEMS):
        config.note_problem("unreachable")
    for config in configs.filter(problem_code="unreachable", misses_in_a_row=0).exclude(provider_id__in=down):
        config.note_recovery()
