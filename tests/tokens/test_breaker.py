"""A provider's fault is not the grants': they wait, and one is tried from time to time (I9)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction

from portal.audit import SYSTEM
from portal.models import AuditEvent, Event
from providers import configure
from providers.models import ProviderConfig, ProviderHealth
from providers.oauth import Failure
from providers.spec import Outcome
from tests.factories import CLIENT_SECRET, GrantFactory, ProviderConfigFactory, UserFactory, database_now
from tests.threads import in_thread, wait_for_locks
from tokens.breaker import tell_everybody
from tokens.claim import claim_due, claim_one
from tokens.commit import commit
from tokens.engine import drain
from tokens.errors import ClientRefusedError, ProviderUnavailableError
from tokens.models import Grant, GrantStatus, Trigger
from tokens.refresh import ensure_fresh
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


def test_a_shorter_retry_after_does_not_end_a_longer_one(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    until = database_now() + timedelta(minutes=10)
    grant = connect(due=True)
    sandbox.fault("throttle", retry_after=5)
    claim = claim_one(grant, trigger=Trigger.BEAT)
    ProviderConfig.objects.update(paused_until=until)
    assert claim is not None

    commit([Result(claim, config, Failure(Outcome.THROTTLED, retry_after=timedelta(seconds=5)))])

    config.refresh_from_db()
    assert config.paused_until == until


def test_a_reader_leaves_a_provider_alone_that_is_down_and_gets_a_token_that_is_still_good(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    good, expired = connect(due=True, account="jo"), connect(expired=True, account="sam")
    config.note_problem("unreachable")
    ProviderConfig.objects.update(probed_at=database_now())

    served = ensure_fresh(good, min_ttl=timedelta(minutes=30))
    with pytest.raises(ProviderUnavailableError):
        ensure_fresh(expired, min_ttl=timedelta(minutes=1))

    assert served.gen == good.gen
    assert calls(sandbox) == []


def test_a_reader_finds_out_that_a_provider_works_again(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    grant = connect(expired=True, refresh_due_at=None)
    config.note_problem("unreachable")
    ProviderConfig.objects.update(probed_at=database_now() - timedelta(minutes=1))

    served = ensure_fresh(grant, min_ttl=timedelta(minutes=1))

    config.refresh_from_db()
    assert served.gen == grant.gen + 1
    assert config.problem_code == ""


def test_a_probe_of_what_is_down_is_no_grants_failure(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    grant = connect(due=True)
    config.note_problem("unreachable")
    sandbox.fault("drop_before_commit", times=-1)
    claim = claim_one(grant, trigger=Trigger.BEAT)
    assert claim is not None

    commit([Result(claim, config, Failure(Outcome.NOT_SENT, cause="refused"))])

    assert Grant.objects.get(pk=grant.pk).fail_count == 0


def other_config(sandbox: SandboxThread) -> ProviderConfig:
    config = ProviderConfigFactory()
    sandbox.register_client(config.client_id, CLIENT_SECRET)
    return config


def test_what_two_configurations_find_down_is_tried_once_for_all_and_all_are_told(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    second, third = other_config(sandbox), other_config(sandbox)
    for number in range(6):
        connect(due=True, account=f"user-a{number}")
        connect(due=True, account=f"user-b{number}", provider_config=second)
    sandbox.fault("status_before", status=503, times=-1)
    drain()
    connect(due=True, account="user-c", provider_config=third)
    due_again()
    sandbox.clear_ledger()

    tell_everybody()
    drain()

    assert ProviderHealth.objects.get().opened_at is not None
    assert len(calls(sandbox)) == 1
    assert set(ProviderConfig.objects.values_list("problem_code", flat=True)) == {"unreachable"}
    assert AuditEvent.objects.filter(event=Event.PROVIDER_FAILING).count() == 3


def test_when_a_provider_answers_one_configuration_all_of_them_go_on(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    second = other_config(sandbox)
    for number in range(6):
        connect(due=True, account=f"user-a{number}")
        connect(due=True, account=f"user-b{number}", provider_config=second)
    sandbox.fault("status_before", status=503, times=12)
    drain()
    due_again()

    drain()
    ProviderConfig.objects.update(misses_in_a_row=0)
    tell_everybody()
    due_again()
    drain()

    assert ProviderHealth.objects.get().opened_at is None
    assert set(ProviderConfig.objects.values_list("problem_code", flat=True)) == {""}
    assert all(gen > 0 for gen in Grant.objects.values_list("gen", flat=True))
    assert AuditEvent.objects.filter(event=Event.PROVIDER_RECOVERED).count() == 2


def test_one_configurations_misses_are_not_the_providers(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    for number in range(20):
        connect(due=True, account=f"user-{number}")
    sandbox.fault("status_before", status=503, times=-1)

    drain()

    assert ProviderHealth.objects.get().opened_at is None


def test_a_wrong_secret_changes_nothing_about_a_grant_b9(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    grants = [connect(due=True, account=account) for account in ("jo", "sam", "lee")]
    columns = ["gen", "status", "fail_count", "fail_outcome", "cause", "refresh_due_at", "next_attempt_at"]
    columns += ["claim_until", "inflight_gen", "inflight_since", "access_expires_at"]
    before = list(Grant.objects.order_by("pk").values(*columns))
    config.set_client_secret("wrong")
    config.save()

    drain()
    with pytest.raises(ClientRefusedError):
        ensure_fresh(connect(expired=True, account="kim"), min_ttl=timedelta(minutes=1))

    ours = Grant.objects.filter(pk__in=[grant.pk for grant in grants]).order_by("pk")
    assert list(ours.values(*columns)) == before


def test_after_a_secret_is_replaced_the_next_tick_refreshes_everything(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    for account in ("jo", "sam", "lee"):
        connect(due=True, account=account)
    config.set_client_secret("wrong")
    config.save()
    drain()

    configure.change(
        config,
        client_id=config.client_id,
        client_secret=CLIENT_SECRET,
        scopes=config.scopes,
        user=UserFactory(),
        actor=SYSTEM,
    )
    drain()

    assert set(Grant.objects.values_list("gen", flat=True)) == {1}
    config.refresh_from_db()
    assert config.problem_code == ""


def test_an_answer_to_the_old_secret_does_not_blame_the_new_one(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    grant = connect(due=True)
    claim = claim_one(grant, trigger=Trigger.BEAT)
    asked_with = ProviderConfig.objects.select_related("application").get()
    config.set_client_secret("another")
    config.save()
    assert claim is not None

    commit([Result(claim, asked_with, Failure(Outcome.CLIENT_BAD, status=401), 0.0, 0.0)])

    config.refresh_from_db()
    assert config.problem_code == ""


# --- locks ----------------------------------------------------------------------------------------------------------


def test_commits_about_the_same_configurations_do_not_wait_for_each_other_in_a_ring(
    connect: Connect, config: ProviderConfig
) -> None:
    """The one holds the provider and wants the second configuration, which the other holds and wants the provider."""
    other = ProviderConfigFactory()
    first, second = sorted([config, other], key=lambda one: one.pk)
    # One outcome of one configuration is counted in one row, for which they would wait in turn.
    kinds = [(first, Outcome.NOT_SENT), (second, Outcome.NOT_SENT), (second, Outcome.AMBIGUOUS)]
    ProviderHealth.objects.create(provider_id=config.provider_id)
    results = []
    for one, outcome in kinds:
        claim = claim_one(GrantFactory(provider_config=one, due=True), trigger=Trigger.BEAT)
        assert claim is not None
        results.append(Result(claim, one, Failure(outcome, cause="no answer")))

    with transaction.atomic():
        ProviderHealth.objects.select_for_update().get()
        commits = [in_thread(lambda: commit(results[:2]))]
        wait_for_locks(1)
        commits.append(in_thread(lambda: commit(results[2:])))
        wait_for_locks(2)
    for made in commits:
        made.result()

    assert ProviderHealth.objects.get().misses_in_a_row == 3
    assert set(ProviderConfig.objects.values_list("misses_in_a_row", flat=True)) == {1, 2}


def test_a_probe_and_a_commit_do_not_wait_for_each_other_in_a_ring(
    connect: Connect, config: ProviderConfig
) -> None:
    """The one holds the provider and wants the configuration, which the other holds and wants the provider."""
    grant = connect(due=True)
    ProviderHealth.objects.create(provider_id=config.provider_id, opened_at=database_now())

    with transaction.atomic():
        ProviderConfig.objects.select_for_update(no_key=True).get(pk=config.pk)
        worker = in_thread(lambda: claim_due(limit=1, trigger=Trigger.BEAT))
        assert worker.result() == []
        reader = in_thread(lambda: claim_one(grant, trigger=Trigger.READER))
        wait_for_locks(1)
        ProviderHealth.objects.update(misses_in_a_row=1)

    assert reader.result() is not None
