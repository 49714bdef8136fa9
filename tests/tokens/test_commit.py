"""Committing a group of answers: what can't be stored takes no other answer along."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection

from providers.models import ProviderConfig
from providers.oauth import Failure, TokenSet
from providers.spec import Outcome
from tests.factories import GrantFactory, ProviderConfigFactory
from tokens.claim import claim_one
from tokens.commit import commit, commit_held
from tokens.erase import erase_all_of_provider
from tokens.models import Grant, GrantStatus, RefreshMinute, Trigger
from tokens.results import FENCED, UNREADABLE, Result

pytestmark = pytest.mark.django_db(transaction=True)

TOKENS = TokenSet("new-access", "new-refresh", timedelta(hours=1), None)
REFUSED = Failure(Outcome.GRANT_DEAD, "invalid_grant", 403, "dead")


def result_of(grant: Grant, came_to: TokenSet | Failure | str) -> Result:
    claim = claim_one(grant, trigger=Trigger.BEAT)
    assert claim is not None
    config = ProviderConfig.objects.select_related("application").get(pk=grant.provider_config_id)
    return Result(claim, config, came_to)


def cut_off() -> None:
    """End this thread's session at the database from another one, as a failover does."""
    other = connection.copy()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    other.close()


@pytest.mark.parametrize("came_to", [TOKENS, REFUSED, UNREADABLE])
def test_an_answer_for_a_grant_that_was_deleted_meanwhile_is_set_aside(
    came_to: TokenSet | Failure | str,
) -> None:
    deleted, other = GrantFactory(due=True), GrantFactory(due=True)
    results = [result_of(deleted, came_to), result_of(other, TOKENS)]
    deleted.delete()

    done = commit(results)

    assert done[results[0].claim.grant_id].outcome == FENCED
    assert done[other.pk].outcome == Outcome.OK
    assert Grant.objects.get().gen == other.gen + 1


@pytest.mark.parametrize("came_to", [TOKENS, REFUSED, UNREADABLE])
def test_a_provider_that_was_deleted_meanwhile_takes_no_other_answer_along(
    came_to: TokenSet | Failure | str,
) -> None:
    config = ProviderConfigFactory()
    deleted, other = GrantFactory(due=True, provider_config=config), GrantFactory(due=True)
    results = [result_of(deleted, came_to), result_of(other, TOKENS)]
    erase_all_of_provider(config)
    config.delete()

    commit(results)

    assert Grant.objects.get().gen == other.gen + 1
    assert list(RefreshMinute.objects.values_list("provider_config", "count")) == [
        (other.provider_config_id, 1)
    ]


def test_an_answer_is_held_until_the_database_is_back() -> None:
    grant = GrantFactory(due=True)
    result = result_of(grant, TOKENS)
    cut_off()

    commit_held([result], hold=timedelta(seconds=10))

    assert Grant.objects.get().gen == grant.gen + 1


def test_an_answer_outlives_a_process_that_is_stopped_in_the_middle_of_its_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a grant may end the database waits for nobody for long, and ends the session."""
    monkeypatch.setattr("tokens.guard.STALL_MS", 200)
    grant, ending = GrantFactory(due=True), GrantFactory(due=True, fail_outcome="grant_dead")
    results = [result_of(grant, TOKENS), result_of(ending, REFUSED)]
    stops = iter([1.0])

    def stopped(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        result = execute(sql, params, many, context)
        if "idle_in_transaction_session_timeout" in sql:
            time.sleep(next(stops, 0))
        return result

    with connection.execute_wrapper(stopped):
        commit_held(results, hold=timedelta(seconds=10))

    assert Grant.objects.get(pk=grant.pk).gen == grant.gen + 1
    assert Grant.objects.get(pk=ending.pk).status == GrantStatus.NEEDS_RECONNECT


def test_after_the_time_to_hold_it_the_error_is_raised() -> None:
    result = result_of(GrantFactory(due=True), TOKENS)
    cut_off()

    with pytest.raises(OperationalError):
        commit_held([result], hold=timedelta(seconds=-1))
