"""Which grants are due when, by their configuration's policy; and planning them anew when it changes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db.models import F
from django.db.models.functions import Now

from providers.models import ProviderConfig
from tests.factories import GrantFactory, database_now
from tests.threads import in_thread
from tokens import replan
from tokens.engine import drain
from tokens.models import Grant
from tokens.refresh import ensure_fresh
from tokens.replan import replan_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.sandbox.thread import SandboxThread

    Connect = Callable[..., Grant]

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)
LONG_AGO = timedelta(days=30)


def due_in(grant: Grant) -> timedelta:
    due = Grant.objects.get(pk=grant.pk).refresh_due_at
    assert due is not None
    return due - database_now()


def old(**fields: Any) -> dict[str, Any]:
    """Return the fields of a grant that is due and was connected long ago."""
    return {"due": True, "consented_at": database_now() - LONG_AGO, **fields}


@pytest.mark.parametrize(
    ("freshness", "used", "soon"),
    [
        ("always", None, True),
        ("used", None, False),
        ("used", timedelta(days=8), False),
        ("used", timedelta(days=6), True),
        ("on_demand", timedelta(days=1), False),
    ],
)
def test_after_a_refresh_the_policy_says_when_the_next_one_is(
    connect: Connect, config: ProviderConfig, freshness: str, used: timedelta | None, soon: bool
) -> None:
    ProviderConfig.objects.update(freshness=freshness)
    grant = connect(**old(used_at=used and database_now() - used))

    drain()

    if soon:
        assert due_in(grant) < timedelta(hours=1)
    else:
        # Well inside Atlassian's 90 days.
        assert 15 * DAY - timedelta(minutes=1) < due_in(grant) <= 30 * DAY


def test_a_grant_that_somebody_asks_for_again_is_kept_fresh_again(
    connect: Connect, config: ProviderConfig
) -> None:
    ProviderConfig.objects.update(freshness="used")
    grant = connect(**old(expired=True, due=False, refresh_due_at=database_now() + 20 * DAY))

    ensure_fresh(grant, min_ttl=timedelta(minutes=1))

    assert due_in(grant) < timedelta(hours=1)


def test_on_demand_a_grant_is_refreshed_by_who_asks_for_it_and_by_nobody_else(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    ProviderConfig.objects.update(freshness="on_demand")
    grant = connect(**old(expired=True, due=False, refresh_due_at=database_now() + 20 * DAY))

    drain()
    asked = len(sandbox.ledger("/oauth/token"))
    served = ensure_fresh(grant, min_ttl=timedelta(minutes=1))

    assert asked == 0
    assert served.gen == grant.gen + 1
    assert due_in(grant) > 14 * DAY


def test_idle_grants_do_not_all_come_on_one_day(connect: Connect, config: ProviderConfig) -> None:
    ProviderConfig.objects.update(freshness="on_demand")
    grants = [connect(**old(account=f"user-{number}")) for number in range(12)]

    drain()

    assert len({due_in(grant).days for grant in grants}) > 3


def test_a_changed_policy_is_followed_by_all_grants_in_batches(
    config: ProviderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replan, "BATCH", 3)
    grants = GrantFactory.create_batch(8, provider_config=config, consented_at=database_now() - LONG_AGO)
    failing = GrantFactory(
        provider_config=config, fail_outcome="ambiguous", consented_at=database_now() - LONG_AGO
    )
    ended = GrantFactory(provider_config=config, needs_reconnect=True)
    other = GrantFactory(consented_at=database_now() - LONG_AGO)
    before = due_in(failing)

    ProviderConfig.objects.filter(pk=config.pk).update(freshness="on_demand", replan_since=Now())
    replan_all()

    assert all(due_in(grant) > 14 * DAY for grant in grants)
    assert abs(due_in(failing) - before) < timedelta(seconds=30)
    assert Grant.objects.get(pk=ended.pk).refresh_due_at is None
    assert due_in(other) < timedelta(hours=1)
    config.refresh_from_db()
    assert config.replan_since is None


def test_back_to_always_fresh_what_ran_out_is_due_at_once(config: ProviderConfig) -> None:
    grant = GrantFactory(
        provider_config=config,
        expired=True,
        refreshed_at=database_now() - 2 * DAY,
        refresh_due_at=database_now() + 20 * DAY,
    )
    ProviderConfig.objects.filter(pk=config.pk).update(replan_since=Now())

    replan_all()

    assert due_in(grant) < timedelta(0)


def test_a_plan_changes_nothing_that_was_claimed_or_refreshed_meanwhile(
    config: ProviderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = GrantFactory(provider_config=config)
    due = grant.refresh_due_at
    real = replan.database_now

    def refreshed_just_now() -> Any:
        Grant.objects.update(gen=F("gen") + 1)
        return real()

    monkeypatch.setattr(replan, "database_now", refreshed_just_now)
    ProviderConfig.objects.filter(pk=config.pk).update(freshness="on_demand", replan_since=Now())

    replan_all()

    assert Grant.objects.get(pk=grant.pk).refresh_due_at == due


def test_a_policy_that_is_changed_again_while_it_is_planned_is_planned_again(
    config: ProviderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    GrantFactory(provider_config=config)
    real, planned = replan.database_now, []

    def changed_again() -> Any:
        # Meanwhile no other worker does the same.
        in_thread(replan_all).result()
        planned.append(1)
        ProviderConfig.objects.filter(pk=config.pk).update(replan_since=real() + timedelta(seconds=1))
        return real()

    monkeypatch.setattr(replan, "database_now", changed_again)
    ProviderConfig.objects.filter(pk=config.pk).update(replan_since=Now())

    replan_all()

    config.refresh_from_db()
    assert config.replan_since is not None
    assert planned == [1]
    monkeypatch.undo()
    in_thread(replan_all).result()
    config.refresh_from_db()
    assert config.replan_since is None
