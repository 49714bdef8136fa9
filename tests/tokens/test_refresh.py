"""Refreshing one grant: what each outcome makes of it. The judge is the sandbox's ledger."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import connection, transaction

from portal.encryption import unseal
from portal.models import AuditEvent, Event
from providers.models import ProviderConfig
from providers.oauth import Failure, TokenSet
from providers.spec import Outcome
from tests.factories import GrantFactory, database_now
from tokens.claim import Claim, claim_due, claim_one
from tokens.commit import commit
from tokens.engine import drain
from tokens.errors import (
    NeedsReconnectError,
    NotInCatalogError,
    ProviderDisabledError,
    RefreshInProgressError,
)
from tokens.models import Grant, GrantStatus, GrantTokens, RefreshAttempt, RefreshMinute, Trigger
from tokens.refresh import ensure_fresh, refresh_now
from tokens.results import FENCED, Committed, Result
from tokens.revoke import revoke

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from providers.sandbox.thread import SandboxThread

    Connect = Callable[..., Grant]

pytestmark = pytest.mark.django_db(transaction=True)

ZERO = timedelta(0)


def stored(grant: Grant, column: str = "refresh_token") -> str | None:
    return unseal(GrantTokens.objects.select_related("grant").get(grant=grant), column)


def token_calls(sandbox: SandboxThread) -> list[dict[str, Any]]:
    return sandbox.ledger("/oauth/token")


def make_due(grant: Grant) -> None:
    Grant.objects.filter(pk=grant.pk).update(refresh_due_at=database_now(), next_attempt_at=None)


def claimed(grant: Grant) -> Claim:
    claim = claim_one(grant, trigger=Trigger.BEAT, is_forced=True)
    assert claim is not None
    return claim


def test_a_due_grant_is_refreshed_and_its_new_tokens_are_stored(
    connect: Connect, sandbox: SandboxThread
) -> None:
    grant = connect(due=True)
    before = stored(grant)

    drain()

    after = Grant.objects.get(pk=grant.pk)
    assert after.gen == grant.gen + 1
    assert stored(grant) != before
    assert after.access_expires_at is not None
    assert timedelta(minutes=59) < after.access_expires_at - database_now() <= timedelta(hours=1)
    assert after.claim_owner is None
    assert after.inflight_gen is None
    assert len(token_calls(sandbox)) == 1


def test_a_refresh_is_journaled_and_counted(connect: Connect) -> None:
    grant = connect(due=True)

    drain()

    attempt = RefreshAttempt.objects.get(grant=grant)
    assert (attempt.outcome, attempt.gen, attempt.trigger) == ("ok", grant.gen, "beat")
    assert attempt.sent_at
    assert attempt.answered_at
    assert attempt.committed_at
    assert attempt.claimed_at <= attempt.answered_at <= attempt.committed_at
    assert RefreshMinute.objects.get().count == 1


def test_the_next_refresh_comes_ahead_of_expiry_and_within_the_leeway(connect: Connect) -> None:
    grant = connect(due=True)

    drain()

    after = Grant.objects.get(pk=grant.pk)
    assert after.access_expires_at
    assert after.refresh_due_at
    ahead = after.access_expires_at - after.refresh_due_at
    assert timedelta(minutes=7) < ahead <= timedelta(minutes=10)


def test_what_is_not_due_is_left_alone(connect: Connect, sandbox: SandboxThread) -> None:
    connect()

    drain()

    assert token_calls(sandbox) == []


@pytest.mark.parametrize("trait", ["pending", "needs_reconnect", "revoked"])
def test_only_active_grants_are_refreshed(connect: Connect, sandbox: SandboxThread, trait: str) -> None:
    grant = connect(**{trait: True})
    make_due(grant)

    drain()

    assert token_calls(sandbox) == []


def test_a_disabled_provider_or_archived_application_stops_refreshing(
    connect: Connect, sandbox: SandboxThread
) -> None:
    grant = connect(due=True)
    ProviderConfig.objects.update(is_enabled=False)

    drain()
    with pytest.raises(ProviderDisabledError):
        refresh_now(grant, trigger=Trigger.MEMBER)
    ProviderConfig.objects.update(is_enabled=True)
    grant.application.archived_at = database_now()
    grant.application.save()
    drain()

    assert token_calls(sandbox) == []


def test_a_grant_whose_catalog_file_is_gone_is_not_claimed_and_holds_nobody_else_back(
    connect: Connect, sandbox: SandboxThread
) -> None:
    gone = GrantFactory(expired=True, provider_config__provider_id="gone")
    grant = connect(due=True)

    drain()
    with pytest.raises(NotInCatalogError):
        refresh_now(gone, trigger=Trigger.MEMBER)
    with pytest.raises(NotInCatalogError):
        ensure_fresh(gone, min_ttl=ZERO)

    assert Grant.objects.get(pk=grant.pk).gen == grant.gen + 1
    assert not RefreshAttempt.objects.filter(grant=gone).exists()
    assert Grant.objects.get(pk=gone.pk).inflight_gen is None


def test_a_claimed_grant_is_left_to_the_worker_that_holds_it(
    connect: Connect, sandbox: SandboxThread
) -> None:
    grant = connect(expired=True)
    claimed(grant)

    with pytest.raises(RefreshInProgressError):
        ensure_fresh(grant, min_ttl=ZERO, budget=ZERO)
    drain()

    assert token_calls(sandbox) == []


def test_a_claim_that_ran_out_is_taken_over(connect: Connect, sandbox: SandboxThread) -> None:
    grant = connect(due=True)
    claimed(grant)
    Grant.objects.update(claim_until=database_now() - timedelta(seconds=1))

    drain()

    assert Grant.objects.get(pk=grant.pk).gen == grant.gen + 1
    assert len(token_calls(sandbox)) == 1


def test_fifty_readers_at_the_moment_of_expiry_cost_one_token_request(
    connect: Connect, sandbox: SandboxThread
) -> None:
    grant = connect(expired=True)
    served: list[Grant] = []

    def read() -> None:
        try:
            served.append(ensure_fresh(grant, min_ttl=timedelta(minutes=1)))
        finally:
            connection.close()

    readers = [threading.Thread(target=read) for _ in range(50)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()

    assert len(served) == 50
    assert {one.gen for one in served} == {grant.gen + 1}
    assert len(token_calls(sandbox)) == 1


def test_a_token_that_is_still_good_is_served_while_the_provider_is_down(
    connect: Connect, sandbox: SandboxThread
) -> None:
    grant = connect(due=True)
    sandbox.fault("status_before", status=503, times=-1)

    served = ensure_fresh(grant, min_ttl=timedelta(minutes=30))

    assert served.gen == grant.gen


def test_a_lost_answer_is_recovered_with_the_same_token_inside_the_leeway(
    connect: Connect, sandbox: SandboxThread
) -> None:
    grant = connect(due=True)
    sandbox.fault("drop_after_commit")
    drain()
    lost = Grant.objects.get(pk=grant.pk)
    assert (lost.gen, lost.fail_outcome, lost.inflight_gen) == (grant.gen, "ambiguous", grant.gen)

    make_due(grant)
    drain()

    recovered = Grant.objects.get(pk=grant.pk)
    assert recovered.gen == grant.gen + 1
    assert recovered.inflight_gen is None
    assert RefreshAttempt.objects.latest("id").cause == "recovered a lost answer inside the leeway"


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("status_before", {"status": 502}),
        ("status_after", {"status": 503}),
        ("html_200", {}),
        ("truncated", {}),
        ("oversized", {}),
        ("empty", {}),
        ("null_token", {}),
        ("drop_before_commit", {}),
    ],
)
def test_an_unclear_answer_stores_nothing_and_ends_nothing(
    connect: Connect, sandbox: SandboxThread, fault: str, options: dict[str, Any]
) -> None:
    grant = connect(due=True)
    before = stored(grant)
    sandbox.fault(fault, **options)

    drain()

    after = Grant.objects.get(pk=grant.pk)
    assert (after.status, after.gen, after.fail_outcome) == (GrantStatus.ACTIVE, grant.gen, "ambiguous")
    assert stored(grant) == before
    assert after.next_attempt_at is not None
    assert after.next_attempt_at - database_now() < timedelta(seconds=15)


def test_retry_after_is_honoured(connect: Connect, sandbox: SandboxThread) -> None:
    grant = connect(due=True)
    sandbox.fault("throttle", retry_after=120)

    drain()

    after = Grant.objects.get(pk=grant.pk)
    assert after.fail_outcome == "throttled"
    assert after.next_attempt_at is not None
    assert timedelta(seconds=110) < after.next_attempt_at - database_now() < timedelta(seconds=130)


def test_a_wrong_client_secret_blames_the_configuration_and_touches_no_grant_b9(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    grants = [
        connect(due=True, account="jo"),
        connect(due=True, account="sam"),
        connect(due=True, account="lee"),
    ]
    config.set_client_secret("wrong")
    config.save()

    drain()
    drain()

    config.refresh_from_db()
    assert config.problem_code == "client_refused"
    assert AuditEvent.objects.filter(event=Event.PROVIDER_FAILING).count() == 1
    assert set(Grant.objects.values_list("status", "gen")) == {("active", grants[0].gen)}


def test_a_replaced_secret_brings_the_configuration_back(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    grant = connect(due=True)
    config.note_problem("client_refused")

    drain()

    config.refresh_from_db()
    assert config.problem_code == ""
    assert AuditEvent.objects.filter(event=Event.PROVIDER_RECOVERED).count() == 1
    assert Grant.objects.get(pk=grant.pk).gen == grant.gen + 1


def test_an_unreadable_client_secret_is_the_admins_to_mend_and_touches_no_grant(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    grant = connect(due=True)
    ProviderConfig.objects.update(client_secret=b"\x01\x02k1garbage")

    drain()

    config.refresh_from_db()
    assert config.problem_code == "secret_unreadable"
    assert token_calls(sandbox) == []
    assert Grant.objects.get(pk=grant.pk).fail_outcome == ""
    assert Grant.objects.get(pk=grant.pk).status == GrantStatus.ACTIVE


def test_a_refused_profile_does_not_stop_refreshing_and_is_not_mended_by_it(
    connect: Connect, config: ProviderConfig
) -> None:
    grants = [connect(due=True, account=account) for account in ("jo", "sam")]
    config.note_problem("profile_refused")

    drain()

    config.refresh_from_db()
    assert config.problem_code == "profile_refused"
    assert set(Grant.objects.values_list("gen", flat=True)) == {grants[0].gen + 1}


def test_a_configuration_that_is_refused_is_asked_with_one_grant_a_tick(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    for account in ("jo", "sam", "lee"):
        connect(due=True, account=account)
    config.set_client_secret("wrong")
    config.save()
    config.note_problem("client_refused")
    sandbox.clear_ledger()

    drain()

    assert len(token_calls(sandbox)) == 1


def test_a_dead_refresh_token_is_asked_once_more_and_then_needs_reconnecting(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    grant = connect(due=True)
    sandbox.revoke_grant("jo", config.client_id)

    drain()
    first = Grant.objects.get(pk=grant.pk)
    make_due(grant)
    drain()
    second = Grant.objects.get(pk=grant.pk)

    assert first.status == GrantStatus.ACTIVE
    assert second.status == GrantStatus.NEEDS_RECONNECT
    assert "removed at Atlassian" in second.cause
    assert AuditEvent.objects.filter(event=Event.GRANT_NEEDS_RECONNECT).count() == 1
    with pytest.raises(NeedsReconnectError):
        ensure_fresh(grant, min_ttl=ZERO)


@pytest.mark.parametrize("style", ["unauthorized_client", "invalid_grant"])
def test_both_of_atlassians_words_for_a_dead_token_are_understood_b8(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread, style: str
) -> None:
    grant = connect(due=True)
    sandbox.set(refresh_error_style=style)
    sandbox.revoke_grant("jo", config.client_id)

    committed = refresh_now(grant, trigger=Trigger.MEMBER)

    assert committed.outcome == Outcome.GRANT_DEAD


def test_a_grant_that_died_of_a_lost_answer_says_so(connect: Connect, sandbox: SandboxThread) -> None:
    sandbox.set(reuse_leeway_seconds=0)
    grant = connect(due=True)
    sandbox.fault("drop_after_commit")
    drain()
    make_due(grant)
    drain()
    make_due(grant)
    drain()

    after = Grant.objects.get(pk=grant.pk)

    assert after.status == GrantStatus.NEEDS_RECONNECT
    assert "lost on the way" in after.cause


def test_a_later_success_undoes_needs_reconnect(connect: Connect) -> None:
    grant = connect(due=True)
    claim = claimed(grant)
    Grant.objects.filter(pk=grant.pk).update(
        status=GrantStatus.NEEDS_RECONNECT, claim_owner=None, claim_until=None
    )
    config = ProviderConfig.objects.select_related("application").get()

    commit([Result(claim, config, TokenSet("late-access", "late-refresh", timedelta(hours=1), None))])

    after = Grant.objects.get(pk=grant.pk)
    assert (after.status, after.gen) == (GrantStatus.ACTIVE, grant.gen + 1)


def test_an_answer_for_a_generation_that_moved_on_changes_nothing(connect: Connect) -> None:
    grant = connect(due=True)
    config = ProviderConfig.objects.select_related("application").get()
    slow = claimed(grant)
    Grant.objects.update(claim_until=database_now() - timedelta(seconds=1))
    drain()
    newest = stored(grant)

    committed = commit(
        [Result(slow, config, TokenSet("old-access", "old-refresh", timedelta(hours=1), None))]
    )

    assert committed[grant.pk].outcome == FENCED
    assert stored(grant) == newest
    assert Grant.objects.get(pk=grant.pk).gen == grant.gen + 1


def test_a_verdict_is_left_to_the_newer_claim_on_the_same_generation(connect: Connect) -> None:
    grant = connect(due=True)
    config = ProviderConfig.objects.select_related("application").get()
    old = claimed(grant)
    Grant.objects.update(claim_until=database_now() - timedelta(seconds=1))
    new = claimed(grant)

    commit([Result(old, config, Failure(Outcome.GRANT_DEAD, "invalid_grant", 403, "dead"))])

    after = Grant.objects.get(pk=grant.pk)
    assert after.status == GrantStatus.ACTIVE
    assert after.claim_epoch == new.epoch
    assert after.claim_owner is not None


def test_an_answer_without_a_refresh_token_keeps_the_old_one_b5(
    connect: Connect, sandbox: SandboxThread
) -> None:
    sandbox.set(omit_refresh_token_on_refresh=True)
    grant = connect(due=True)
    before = stored(grant)

    drain()

    assert Grant.objects.get(pk=grant.pk).gen == grant.gen + 1
    assert stored(grant) == before


def test_an_answer_without_a_usable_lifetime_has_a_defined_expiry_b6(
    connect: Connect, sandbox: SandboxThread
) -> None:
    sandbox.set(no_expires_in=True)
    grant = connect(due=True)

    drain()

    after = Grant.objects.get(pk=grant.pk)
    assert after.access_expires_at is not None
    assert after.access_expires_at - database_now() <= timedelta(hours=1)


def test_a_grant_without_a_refresh_token_needs_reconnecting_when_its_access_ends(connect: Connect) -> None:
    grant = connect(expired=True)
    GrantTokens.objects.update(refresh_token=None)

    drain()
    make_due(grant)
    drain()

    after = Grant.objects.get(pk=grant.pk)
    assert after.status == GrantStatus.NEEDS_RECONNECT
    assert "no refresh token" in after.cause


def test_an_unreadable_grant_is_set_aside_and_the_others_go_on_c8(
    connect: Connect, sandbox: SandboxThread
) -> None:
    broken, whole = connect(due=True, account="jo"), connect(due=True, account="sam")
    GrantTokens.objects.filter(grant=broken).update(refresh_token=b"\x01\x02k1garbage")

    drain()

    assert Grant.objects.get(pk=broken.pk).fail_outcome == "unreadable"
    assert Grant.objects.get(pk=broken.pk).status == GrantStatus.ACTIVE
    assert Grant.objects.get(pk=whole.pk).gen == whole.gen + 1
    assert len(token_calls(sandbox)) == 1


def test_a_grant_revoked_while_a_call_is_under_way_stays_revoked(
    connect: Connect, config: ProviderConfig
) -> None:
    from portal.audit import SYSTEM

    grant = connect(due=True)
    claim = claimed(grant)
    revoke(grant, actor=SYSTEM)

    committed = commit([Result(claim, config, TokenSet("a", "r", timedelta(hours=1), None))])

    assert committed[grant.pk] == Committed(FENCED, "the connection was revoked meanwhile")
    assert Grant.objects.get(pk=grant.pk).status == GrantStatus.REVOKED
    assert not GrantTokens.objects.filter(grant=grant).exists()


def test_two_workers_never_claim_the_same_grant(connect: Connect) -> None:
    for number in range(20):
        connect(due=True, account=f"user-{number}")
    seen: list[Any] = []

    def take() -> None:
        try:
            while claims := claim_due(limit=3, trigger=Trigger.BEAT):
                seen.extend(claim.grant_id for claim in claims)
        finally:
            connection.close()

    workers = [threading.Thread(target=take) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert len(seen) == len(set(seen)) == 20


def test_a_claim_is_refused_inside_a_transaction_that_could_still_roll_back(connect: Connect) -> None:
    grant = connect(due=True)

    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        claim_one(grant, trigger=Trigger.BEAT)


def test_one_applications_thousands_do_not_stand_before_anothers_one(
    connect: Connect, sandbox: SandboxThread
) -> None:
    from tests.factories import CLIENT_SECRET, ProviderConfigFactory

    for number in range(10):
        connect(expired=True, account=f"user-{number}")
    other = ProviderConfigFactory()
    sandbox.register_client(other.client_id, CLIENT_SECRET)
    connect(due=True, account="jo", provider_config=other)

    claims = claim_due(limit=6, trigger=Trigger.BEAT)

    assert other.pk in {claim.provider_config_id for claim in claims}


def test_two_claims_of_one_grant_are_told_apart_by_their_epoch(connect: Connect) -> None:
    grant = connect(due=True)
    first = claimed(grant)
    Grant.objects.update(claim_until=database_now() - timedelta(seconds=1))

    second = claimed(grant)

    assert second.epoch == first.epoch + 1
    assert RefreshAttempt.objects.filter(grant=grant).count() == 2


ONE_COMMIT_FINDS_NO_DATABASE = """
CREATE SEQUENCE commits;
CREATE FUNCTION end_the_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('commits') = 1 THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER end_the_session BEFORE UPDATE ON tokens_granttokens
    FOR EACH ROW EXECUTE FUNCTION end_the_session();
"""


@pytest.fixture
def one_commit_finds_no_database(transactional_db: None) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(ONE_COMMIT_FINDS_NO_DATABASE)
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION end_the_session CASCADE; DROP SEQUENCE commits")


@pytest.mark.usefixtures("one_commit_finds_no_database")
def test_a_readers_answer_outlives_a_failover(connect: Connect, sandbox: SandboxThread) -> None:
    grant = connect(expired=True)

    served = ensure_fresh(grant, min_ttl=timedelta(minutes=5))

    assert served.gen == grant.gen + 1
    assert len(token_calls(sandbox)) == 1


def test_a_reader_waits_not_long_for_anothers_refresh_while_the_old_token_is_good(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokens.refresh.PATIENCE", timedelta(milliseconds=150))
    grant = connect(due=True)
    claimed(grant)

    served = ensure_fresh(grant, min_ttl=timedelta(minutes=30))

    assert served.gen == grant.gen


def test_a_waiting_reader_costs_one_statement_a_look(
    connect: Connect, django_assert_max_num_queries: Any
) -> None:
    grant = connect(expired=True)
    claimed(grant)

    # Half a second is five looks, and one more to see whether the token is still good.
    with django_assert_max_num_queries(9), pytest.raises(RefreshInProgressError):
        ensure_fresh(grant, min_ttl=ZERO, budget=timedelta(milliseconds=500))


def test_a_reader_waits_for_the_probe_of_a_provider_that_is_down(
    connect: Connect, config: ProviderConfig
) -> None:
    grant = connect(expired=True)
    claim = claimed(grant)
    config.note_problem("unreachable")
    answer = TokenSet("new-access", "new-refresh", timedelta(hours=1), None)

    def answered() -> None:
        commit([Result(claim, config, answer)])
        connection.close()

    later = threading.Timer(0.3, answered)
    later.start()

    served = ensure_fresh(grant, min_ttl=ZERO)
    later.join()

    assert served.gen == grant.gen + 1
