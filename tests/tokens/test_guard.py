"""Not many grants end at once: a flood of refusals is an incident until a person says that it is none (I7, I9)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import transaction
from django.db.models import F

from portal.audit import SYSTEM
from portal.models import AuditEvent, Event
from providers.models import ProviderConfig, ProviderHealth
from providers.oauth import Failure
from providers.spec import Outcome
from tests.factories import CLIENT_SECRET, GrantFactory, ProviderConfigFactory, database_now
from tests.threads import in_thread, wait_for_locks
from tokens.claim import claim_one
from tokens.commit import commit
from tokens.engine import drain
from tokens.guard import held_by, let_end
from tokens.models import Grant, GrantStatus, Trigger
from tokens.replan import replan_all
from tokens.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.sandbox.thread import SandboxThread

    Connect = Callable[..., Grant]

pytestmark = pytest.mark.django_db(transaction=True)


def due_again() -> None:
    Grant.objects.filter(status=GrantStatus.ACTIVE).update(
        refresh_due_at=database_now(), next_attempt_at=None
    )
    ProviderConfig.objects.update(probed_at=None)


def ended() -> int:
    return Grant.objects.filter(status=GrantStatus.NEEDS_RECONNECT).count()


def refuse_all(sandbox: SandboxThread) -> None:
    sandbox.fault("status_before", status=403, body={"error": "invalid_grant"}, times=-1)


def refused_again(config: ProviderConfig) -> Result:
    """Return what ends a grant: the second refusal of one that was refused before."""
    grant = GrantFactory(provider_config=config, due=True, fail_outcome=Outcome.GRANT_DEAD, fail_count=1)
    claim = claim_one(grant, trigger=Trigger.BEAT)
    assert claim is not None
    return Result(claim, config, Failure(Outcome.GRANT_DEAD, "invalid_grant", 403), 0.0, 0.0)


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


@pytest.mark.parametrize(("number", "configurations", "may"), [(8, 1, 5), (12, 12, 10)])
def test_commits_of_one_moment_end_no_more_together_than_one_after_the_other(
    number: int, configurations: int, may: int
) -> None:
    configs = ProviderConfigFactory.create_batch(configurations)
    results = [refused_again(configs[n % configurations]) for n in range(number)]

    with transaction.atomic():
        # All of them have come as far as they can before the first is committed.
        list(ProviderConfig.objects.select_for_update(of=("self",)))
        commits = [in_thread(lambda result=result: commit([result])) for result in results]
        wait_for_locks(number)
    for made in commits:
        made.result()

    assert ended() == may


def test_a_commit_that_holds_endings_does_not_wait_in_a_ring_for_another_of_the_same_configurations() -> None:
    """The one holds the second configuration and wants the first, which the other holds and wants the second."""
    first, second = sorted(ProviderConfigFactory.create_batch(2), key=lambda one: one.pk)
    for _ in range(5):
        GrantFactory(needs_reconnect=True, ended_at=database_now(), provider_config=second)
    results = [refused_again(second), refused_again(first)]
    others = []
    for config in (first, second):
        claim = claim_one(GrantFactory(due=True, provider_config=config), trigger=Trigger.BEAT)
        assert claim is not None
        others.append(Result(claim, config, Failure(Outcome.THROTTLED), 0.0, 0.0))

    with transaction.atomic():
        ProviderConfig.objects.select_for_update(of=("self",)).get(pk=first.pk)
        commits = [in_thread(lambda: commit(others))]
        wait_for_locks(1)
        commits.append(in_thread(lambda: commit(results)))
        wait_for_locks(2)
    for made in commits:
        made.result()

    second.refresh_from_db()
    assert second.problem_code == "many_refused"


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
    for _ in range(24):
        GrantFactory(expired=True, provider_config=config, refresh_token=None)

    drain()

    config.refresh_from_db()
    assert config.problem_code == ""
    assert Grant.objects.filter(status=GrantStatus.NEEDS_RECONNECT).count() == 24


@pytest.mark.parametrize(("working", "may"), [(119, False), (121, True)])
def test_the_more_grants_there_are_the_more_may_end_at_once(
    config: ProviderConfig, working: int, may: bool
) -> None:
    for _ in range(6):
        GrantFactory(needs_reconnect=True, ended_at=database_now(), provider_config=config)
    GrantFactory.create_batch(working, provider_config=config)

    assert (held_by(config, database_now()) == "") is may


def test_a_long_incident_ends_no_more_than_the_first_few(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    for number in range(12):
        connect(due=True, account=f"user-{number}")
    refuse_all(sandbox)

    for _ in range(5):
        drain()
        due_again()
        Grant.objects.filter(ended_at__isnull=False).update(ended_at=F("ended_at") - timedelta(minutes=11))

    assert ended() == 5
    assert AuditEvent.objects.filter(event=Event.PROVIDER_FAILING).count() == 1


def test_a_flood_without_any_success_ends_nothing_and_asks_no_more_than_now_and_then(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    for number in range(30):
        connect(due=True, account=f"user-{number}")
    refuse_all(sandbox)
    drain()
    due_again()
    sandbox.clear_ledger()

    drain()

    assert ended() == 0
    assert len(sandbox.ledger("/oauth/token")) == 1
    config.refresh_from_db()
    assert config.problem_code == "many_refused"


def test_when_the_provider_accepts_again_the_refused_are_refreshed_without_anybodys_doing(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    for number in range(30):
        connect(due=True, account=f"user-{number}")
    refuse_all(sandbox)
    drain()
    sandbox.clear_faults()
    refused = Grant.objects.filter(fail_outcome="grant_dead").earliest("pk")
    Grant.objects.exclude(pk=refused.pk).update(refresh_due_at=database_now() + timedelta(minutes=5))
    Grant.objects.filter(pk=refused.pk).update(refresh_due_at=database_now())
    ProviderConfig.objects.update(probed_at=None)

    drain()
    replan_all()
    due_in = [
        due - database_now()
        for due in Grant.objects.filter(gen=0, fail_outcome="grant_dead").values_list(
            "refresh_due_at", flat=True
        )
        if due
    ]
    Grant.objects.filter(gen=0).update(refresh_due_at=database_now())
    drain()

    config.refresh_from_db()
    assert (config.problem_code, config.endings_held_since, config.replan_since) == ("", None, None)
    assert AuditEvent.objects.filter(event=Event.PROVIDER_RECOVERED).count() == 1
    assert all(wait < timedelta(seconds=61) for wait in due_in)
    assert set(Grant.objects.values_list("status", "gen")) == {("active", 1)}


def test_an_ordinary_success_does_not_say_that_the_refused_are_accepted(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    connect(due=True)
    ProviderConfig.objects.update(endings_held_since=database_now(), refused_in_a_row=3)
    config.note_problem("many_refused")

    drain()

    config.refresh_from_db()
    assert config.problem_code == "many_refused"
    assert config.refused_in_a_row == 0


def test_the_healthy_go_on_while_endings_are_held(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    ProviderConfig.objects.update(endings_held_since=database_now())
    config.note_problem("many_refused")
    for number in range(8):
        connect(due=True, account=f"user-{number}")

    drain()

    assert set(Grant.objects.values_list("gen", flat=True)) == {1}


def test_who_says_that_they_really_are_over_lets_them_end(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    for number in range(30):
        connect(due=True, account=f"user-{number}")
    refuse_all(sandbox)
    drain()

    assert let_end(config, actor=SYSTEM)
    assert not let_end(config, actor=SYSTEM)
    replan_all()
    # On a busy machine endings were held before all had been refused for the first time.
    for _ in range(2):
        due_again()
        drain()

    assert ended() == 30
    config.refresh_from_db()
    assert config.problem_code == ""
    assert AuditEvent.objects.filter(event=Event.PROVIDER_ENDINGS_ALLOWED).count() == 1


def test_many_small_configurations_refused_at_once_are_the_providers_incident(
    connect: Connect, sandbox: SandboxThread
) -> None:
    for number in range(7):
        config = ProviderConfigFactory()
        sandbox.register_client(config.client_id, CLIENT_SECRET)
        for person in range(3):
            connect(due=True, account=f"user-{number}-{person}", provider_config=config)
    refuse_all(sandbox)

    for _ in range(4):
        drain()
        due_again()
        Grant.objects.filter(ended_at__isnull=False).update(ended_at=F("ended_at") - timedelta(minutes=11))

    assert ended() == 10
    assert ProviderHealth.objects.get().endings_held_since is not None
