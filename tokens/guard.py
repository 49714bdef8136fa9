"""Keep many grants from ending at once: a flood of refusals is the provider's incident, or an admin's mistake.

A few grants of a configuration may end within the window; then endings are held, and the admin is told. Grants that
were refused are tried again from time to time. The first of them that is accepted ends the hold, and so does a person
who says that they really are over.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from portal.audit import record
from portal.models import Event
from providers.models import ProviderConfig, ProviderHealth
from providers.oauth import Failure
from providers.spec import Outcome
from tokens.gate import STALL_MS
from tokens.models import Grant, GrantStatus

if TYPE_CHECKING:
    import datetime as dt

    from django.db.models import QuerySet

    from portal.audit import Actor
    from tokens.results import Result

# More than so many, and more than this share of all, must not end within the window: of a configuration, of a provider.
FEW = 5
FEW_OF_PROVIDER = 10
SHARE = 0.05
WINDOW = timedelta(minutes=10)
# So many refusals in a row, with no success between them, are a flood before the first grant has ended.
FLOOD_IN_A_ROW = 20
# How long grants may end freely after somebody said that they should: a round of hourly refreshes, and some more.
ALLOWED_FOR = timedelta(hours=2)
# What endings are held by.
CONFIGURATION, PROVIDER = "configuration", "provider"
# The class of these advisory locks; a lock is this and the hash of a provider's id.
LOCK_CLASS = 7_032

# A process that is stopped in the middle of its commit must not keep all others from theirs.
_TAKE_TURN = """
SELECT set_config('idle_in_transaction_session_timeout', %(stall)s, true),
    pg_advisory_xact_lock(%(class)s, hashtext(%(provider)s))
"""


def is_confirmed(result: Result) -> bool:
    """Tell whether a provider has refused a grant again that it had refused before, so that it may end."""
    came_to, claim = result.came_to, result.claim
    is_refused = isinstance(came_to, Failure) and came_to.outcome is Outcome.GRANT_DEAD
    # Without a refresh token nobody was asked.
    return is_refused and claim.was_refused and claim.refresh_token is not None


def take_turn(results: list[Result]) -> None:
    """Let no other commit end grants of the same providers before this one is done: each must see the other's endings.

    To be called before any row is locked. Who waits here holds nothing that somebody else could wait for.
    """
    providers = {result.config.provider_id for result in results if is_confirmed(result)}
    with connection.cursor() as cursor:
        for provider in sorted(providers):
            params: dict[str, Any] = {"class": LOCK_CLASS, "provider": provider, "stall": f"{STALL_MS}ms"}
            cursor.execute(_TAKE_TURN, params)


def held_by(config: ProviderConfig, now: dt.datetime) -> str:
    """Tell what keeps one more grant from ending now: "configuration", "provider", or "" if nothing does."""
    state = ProviderConfig.objects.get(pk=config.pk)
    if state.endings_allowed_until is not None and state.endings_allowed_until > now:
        return ""
    ours = Grant.objects.filter(provider_config=config)
    if state.endings_held_since is not None or _is_flood(ours, FEW, now):
        return CONFIGURATION
    everybodys = Grant.objects.filter(provider_config__provider_id=config.provider_id)
    if _is_provider_held(config) or _is_flood(everybodys, FEW_OF_PROVIDER, now):
        return PROVIDER
    return ""


def _is_provider_held(config: ProviderConfig) -> bool:
    return ProviderHealth.objects.filter(
        provider_id=config.provider_id, endings_held_since__isnull=False
    ).exists()


def _is_flood(grants: QuerySet[Grant], few: int, now: dt.datetime) -> bool:
    ended = grants.filter(status=GrantStatus.NEEDS_RECONNECT, ended_at__gt=now - WINDOW).count()
    if ended < few:
        return False
    # Whether there are enough, not how many: a provider may have a million.
    enough = int(ended / SHARE) + 1
    return grants.filter(status=GrantStatus.ACTIVE)[:enough].count() < enough


def note_refusals(config: ProviderConfig, refused: int) -> None:
    """Count refusals with no success between them, and hold endings when they are a flood."""
    if not refused:
        return
    configs = ProviderConfig.objects.filter(pk=config.pk)
    configs.update(refused_in_a_row=F("refused_in_a_row") + refused)
    is_allowed = Q(endings_allowed_until__gt=Now())
    if (
        configs.filter(endings_held_since=None, refused_in_a_row__gte=FLOOD_IN_A_ROW)
        .exclude(is_allowed)
        .exists()
    ):
        hold(config)


def hold(config: ProviderConfig, *, by: str = CONFIGURATION) -> None:
    """End no grant of a configuration, or of its provider, until it is released, and tell the admin once."""
    if by == PROVIDER:
        ProviderHealth.objects.get_or_create(provider_id=config.provider_id)
        ProviderHealth.objects.filter(provider_id=config.provider_id, endings_held_since=None).update(
            endings_held_since=Now()
        )
    else:
        ProviderConfig.objects.filter(pk=config.pk, endings_held_since=None).update(endings_held_since=Now())
    config.note_problem("many_refused")


def release(config: ProviderConfig) -> None:
    """Let grants end one by one again, as the provider has accepted one that it had refused; the others are tried soon."""
    ProviderHealth.objects.filter(provider_id=config.provider_id, endings_held_since__isnull=False).update(
        endings_held_since=None
    )
    held = ProviderConfig.objects.filter(pk=config.pk).filter(
        Q(endings_held_since__isnull=False) | Q(problem_code="many_refused")
    )
    if held.update(endings_held_since=None, refused_in_a_row=0, replan_since=Now()):
        config.note_recovery("many_refused")


def let_end(config: ProviderConfig, *, actor: Actor) -> bool:
    """Take the provider at its word: end what it has refused, and what it refuses in the next two hours.

    Returns whether there was anything held. Doing it twice changes nothing.
    """
    with transaction.atomic():
        state = ProviderConfig.objects.select_for_update(of=("self",)).get(pk=config.pk)
        if state.endings_held_since is None and state.problem_code != "many_refused":
            return False
        state.endings_held_since, state.refused_in_a_row = None, 0
        state.endings_allowed_until, state.replan_since = Now() + ALLOWED_FOR, Now()
        if state.problem_code == "many_refused":
            state.problem_code, state.problem_message, state.problem_since = "", "", None
        state.save()
        record(Event.PROVIDER_ENDINGS_ALLOWED, actor=actor, application=config.application, subject=config)
    return True
