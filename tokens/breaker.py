"""Tell a fault of the provider or of its configuration from a fault of a grant.

A configuration that is refused, or does not get through several times in a row, is asked with one grant a tick until
it answers again; its grants wait. And not many grants of a provider end at once: before that happens, somebody looks.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import F
from django.db.models.functions import Now

from providers.models import STOPPING_PROBLEMS, ProviderConfig
from providers.oauth import Failure
from providers.spec import Outcome
from tokens.models import Grant, GrantStatus
from tokens.schedule import THROTTLED_PAUSE

if TYPE_CHECKING:
    import datetime as dt
    import uuid

    from tokens.results import Committed, Result

# So many failures in a row, with no success between them, are the provider's and not the grants'.
BREAK_AFTER = 5
# More than so many, and more than this share of all, must not end within the window.
FEW = 5
SHARE = 0.05
WINDOW = timedelta(minutes=10)


def note_health(results: list[Result], done: dict[uuid.UUID, Committed]) -> None:
    """Tell the admin once when a configuration stops working, and once when it works again (B9)."""
    for config_id in sorted({result.config.pk for result in results}):
        mine = [result for result in results if result.config.pk == config_id]
        outcomes = [done[result.claim.grant_id].outcome for result in mine]
        if Outcome.OK in outcomes:
            _note_success(mine)
            continue
        if Outcome.CLIENT_BAD in outcomes:
            # Nothing was sent where our own copy of the secret could not be read.
            was_sent = any(result.sent is not None for result in mine)
            mine[0].config.note_problem("client_refused" if was_sent else "secret_unreadable")
        if missed := sum(outcome in (Outcome.NOT_SENT, Outcome.AMBIGUOUS) for outcome in outcomes):
            _note_misses(mine[0].config, missed)
        if Outcome.THROTTLED in outcomes:
            _pause(mine)


def _note_success(results: list[Result]) -> None:
    config = results[0].config
    if any(result.claim.config_problem in STOPPING_PROBLEMS for result in results):
        config.note_recovery()
    ProviderConfig.objects.filter(pk=config.pk, misses_in_a_row__gt=0).update(misses_in_a_row=0)


def _note_misses(config: ProviderConfig, missed: int) -> None:
    ProviderConfig.objects.filter(pk=config.pk).update(misses_in_a_row=F("misses_in_a_row") + missed)
    if ProviderConfig.objects.filter(pk=config.pk, misses_in_a_row__gte=BREAK_AFTER).exists():
        config.note_problem("unreachable")


def _pause(results: list[Result]) -> None:
    """Leave a configuration alone for as long as the provider asked, or for a while where it named no time."""
    waits = [
        result.came_to.retry_after or THROTTLED_PAUSE
        for result in results
        if isinstance(result.came_to, Failure) and result.came_to.outcome is Outcome.THROTTLED
    ]
    ProviderConfig.objects.filter(pk=results[0].config.pk).update(paused_until=Now() + max(waits))


def may_end(config: ProviderConfig, now: dt.datetime) -> bool:
    """Tell whether one more grant of this provider may end now: a flood of refusals is the provider's incident."""
    ours = Grant.objects.filter(provider_config__provider_id=config.provider_id)
    ended = ours.filter(status=GrantStatus.NEEDS_RECONNECT, ended_at__gt=now - WINDOW).count()
    if ended < FEW:
        return True
    # Whether there are enough, not how many: a provider may have a million.
    enough = int(ended / SHARE) + 1
    return ours.filter(status=GrantStatus.ACTIVE)[:enough].count() == enough
