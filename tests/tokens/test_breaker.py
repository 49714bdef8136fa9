"""A provider's fault is not the grants': they wait, one is tried, and not many end at once (I9)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from portal.models import AuditEvent, Event
from providers.models import ProviderConfig
from tests.factories import GrantFactory, database_now
from tokens.breaker import may_end
from tokens.engine import drain
from tokens.errors import ProviderUnavailableError
from tokens.models import Grant, GrantStatus
from tokens.refresh import ensure_fresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.sandbox.thread import SandboxThread

    Connect = Callable[..., Grant]

pytestmark = pytest.mark.django_db(transaction=True)


def due_again() -> None:
    Grant.objects.filter(status=GrantStatus.ACTIVE).update(
        refresh_due_at=database_now(), next_attempt_at=None
    )


def calls(sandbox: SandboxThread) -> list[dict[str, Any]]:
    return sandbox.ledger("/oauth/token")


def test_a_provider_that_is_down_is_asked_with_one_grant_a_tick_until_it_answers(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    for number in range(6):
        connect(due=True, account=f"user-{number}")
    sandbox.fault("status_before", status=503, times=-1)

    drain()
    due_again()
    sandbox.clear_ledger()
    drain()

    config.refresh_from_db()
    assert config.problem_code == "unreachable"
    assert len(calls(sandbox)) == 1
    assert AuditEvent.objects.filter(event=Event.PROVIDER_FAILING).count() == 1
    assert set(Grant.objects.values_list("status", flat=True)) == {"active"}


def test_a_provider_that_answers_again_is_given_everything_at_the_next_tick(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    for number in range(6):
        connect(due=True, account=f"user-{number}")
    sandbox.fault("status_before", status=503, times=6)
    drain()
    due_again()

    drain()
    due_again()
    drain()

    config.refresh_from_db()
    assert (config.problem_code, config.misses_in_a_row) == ("", 0)
    assert AuditEvent.objects.filter(event=Event.PROVIDER_RECOVERED).count() == 1
    assert all(gen > 0 for gen in Grant.objects.values_list("gen", flat=True))


def test_a_few_misses_between_successes_open_nothing(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    for number in range(8):
        connect(due=True, account=f"user-{number}")
    sandbox.fault("status_before", status=503, times=3)

    drain()

    config.refresh_from_db()
    assert config.problem_code == ""


def test_retry_after_pauses_the_whole_configuration(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    connect(due=True, account="jo")
    sandbox.fault("throttle", retry_after=300)
    drain()
    connect(due=True, account="sam")
    sandbox.clear_ledger()

    drain()

    config.refresh_from_db()
    assert config.paused_until is not None
    assert timedelta(seconds=280) < config.paused_until - database_now() <= timedelta(seconds=300)
    assert calls(sandbox) == []


def test_a_reader_does_not_ask_a_provider_that_asked_us_to_wait(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    grant = connect(expired=True)
    ProviderConfig.objects.update(paused_until=database_now() + timedelta(minutes=5))

    with pytest.raises(ProviderUnavailableError):
        ensure_fresh(grant, min_ttl=timedelta(minutes=5))

    assert calls(sandbox) == []


def test_a_flood_of_refusals_ends_five_grants_and_alerts_instead_of_ending_the_rest(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    for number in range(12):
        connect(due=True, account=f"user-{number}")
        sandbox.revoke_grant(f"user-{number}", config.client_id)

    drain()
    due_again()
    drain()

    config.refresh_from_db()
    assert config.problem_code == "many_refused"
    assert Grant.objects.filter(status=GrantStatus.NEEDS_RECONNECT).count() == 5
    assert Grant.objects.filter(status=GrantStatus.ACTIVE).count() == 7
    assert AuditEvent.objects.filter(event=Event.PROVIDER_FAILING).count() == 1


def test_endings_of_long_ago_do_not_hold_back_todays(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    for number in range(6):
        connect(
            needs_reconnect=True, account=f"user-{number}", ended_at=database_now() - timedelta(minutes=11)
        )
    grant = connect(due=True, account="jo")
    sandbox.revoke_grant("jo", config.client_id)

    drain()
    due_again()
    drain()

    assert Grant.objects.get(pk=grant.pk).status == GrantStatus.NEEDS_RECONNECT


def test_grants_without_a_refresh_token_end_with_their_access_and_alarm_nobody(
    config: ProviderConfig,
) -> None:
    for _ in range(8):
        GrantFactory(expired=True, provider_config=config, refresh_token=None)

    drain()

    config.refresh_from_db()
    assert config.problem_code == ""
    assert Grant.objects.filter(status=GrantStatus.NEEDS_RECONNECT).count() == 8


@pytest.mark.parametrize(("working", "may"), [(119, False), (121, True)])
def test_the_more_grants_there_are_the_more_may_end_at_once(
    config: ProviderConfig, working: int, may: bool
) -> None:
    for _ in range(6):
        GrantFactory(needs_reconnect=True, ended_at=database_now(), provider_config=config)
    GrantFactory.create_batch(working, provider_config=config)

    assert may_end(config, database_now()) is may
