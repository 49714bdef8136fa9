"""Limits of a configuration hold over all workers and readers, and nobody waits for somebody else's trouble."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from django.db import InternalError, connection, transaction

from providers.models import ProviderConfig
from tests.factories import CLIENT_SECRET, ProviderConfigFactory, database_now
from tests.tokens.made_up import made_up_provider
from tokens.claim import claim_due, claim_one
from tokens.engine import drain
from tokens.errors import TokenError
from tokens.gate import lock_one
from tokens.models import Grant, RefreshAttempt, Trigger
from tokens.refresh import ensure_fresh

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from providers.sandbox.thread import SandboxThread

    Connect = Callable[..., Grant]

pytestmark = pytest.mark.django_db(transaction=True)

numbers = count()

EIGHT_THOUSAND_MORE = """
WITH grants AS (
    INSERT INTO tokens_grant
    SELECT (jsonb_populate_record(g, jsonb_build_object('id', gen_random_uuid(), 'end_user', n, 'account_id', n))).*
    FROM tokens_grant g, generate_series(1, 8000) n
    RETURNING id
)
INSERT INTO tokens_granttokens (grant_id, access_token, refresh_token)
SELECT id, access_token, refresh_token FROM grants, tokens_granttokens
"""


def due(connect: Connect, how_many: int, **fields: Any) -> list[Grant]:
    fields.setdefault("due", True)
    return [connect(account=f"user-{next(numbers)}", **fields) for _ in range(how_many)]


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    def run() -> None:
        try:
            work()
        except TokenError:
            pass
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def most_within(sandbox: SandboxThread, seconds: float, **only: str) -> int:
    """Return how many calls arrived within so many seconds, at the busiest moment."""
    times = [
        call["at"] for call in sandbox.ledger() if all(call[name] == value for name, value in only.items())
    ]
    return max(sum(at <= other < at + seconds for other in times) for at in times)


def test_no_more_calls_are_under_way_than_allowed_over_all_workers_and_readers(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    ProviderConfig.objects.update(max_parallel=4)
    due(connect, 10)
    asked_for = due(connect, 6, due=False, expired=True, refresh_due_at=None)
    sandbox.fault("latency", ms=300, times=-1)

    workers = [in_thread(lambda: drain(budget=timedelta(seconds=5))) for _ in range(2)]
    readers = [
        in_thread(lambda grant=grant: ensure_fresh(grant, min_ttl=timedelta(minutes=1)))
        for grant in asked_for
    ]
    for thread in [*workers, *readers]:
        thread.join()

    assert Grant.objects.filter(gen=1).count() == 16
    # Each call lasts for 300 ms, so that those within that time were under way together.
    assert most_within(sandbox, 0.29) == 4


def test_no_more_calls_begin_in_a_second_than_allowed(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    ProviderConfig.objects.update(max_per_second=8)
    due(connect, 40)

    workers = [in_thread(lambda: drain(budget=timedelta(seconds=3))) for _ in range(2)]
    for worker in workers:
        worker.join()

    # Half a second's worth may come at once.
    assert most_within(sandbox, 1.0) <= 8 + 4
    assert 18 <= Grant.objects.filter(gen=1).count() <= 3.5 * 8


def test_what_the_catalog_allows_counts_where_the_configuration_says_nothing(
    connect: Connect, config: ProviderConfig
) -> None:
    due(connect, 3)
    ProviderConfig.objects.update(max_parallel=1)

    first = claim_due(limit=10, trigger=Trigger.BEAT)
    ProviderConfig.objects.update(max_parallel=None)
    others = claim_due(limit=10, trigger=Trigger.BEAT)

    assert (len(first), len(others)) == (1, 2)


def test_calls_of_a_killed_worker_count_only_as_long_as_its_claims(
    connect: Connect, config: ProviderConfig
) -> None:
    ProviderConfig.objects.update(max_parallel=1)
    left_behind, other = due(connect, 2)
    assert claim_one(left_behind, trigger=Trigger.BEAT)
    assert claim_one(other, trigger=Trigger.READER) is None

    RefreshAttempt.objects.update(claimed_at=database_now() - timedelta(minutes=5))

    assert claim_one(other, trigger=Trigger.READER)


def test_workers_leave_a_slot_to_readers(connect: Connect, config: ProviderConfig) -> None:
    ProviderConfig.objects.update(max_parallel=10)
    grants = due(connect, 12)

    claims = claim_due(limit=100, trigger=Trigger.BEAT)

    left = [grant for grant in grants if grant.pk not in {claim.grant_id for claim in claims}]
    assert len(claims) == 9
    assert claim_one(left[0], trigger=Trigger.READER)
    assert claim_one(left[1], trigger=Trigger.READER) is None


def test_a_lost_answer_is_asked_for_again_before_all_else_that_is_due(
    connect: Connect, config: ProviderConfig
) -> None:
    due(connect, 3)
    (lost,) = due(connect, 1)
    Grant.objects.update(refresh_due_at=database_now() - timedelta(minutes=5))
    # Its pause has only just ended; the others have been due for long.
    Grant.objects.filter(pk=lost.pk).update(fail_outcome="ambiguous", refresh_due_at=database_now())

    first = claim_due(limit=2, trigger=Trigger.BEAT)
    then = claim_due(limit=9, trigger=Trigger.BEAT)

    assert lost.pk in {claim.grant_id for claim in first}
    assert (len(first), len(then)) == (2, 2)


def test_a_lost_answer_does_not_speak_for_a_configuration_that_does_not_work(
    connect: Connect, config: ProviderConfig
) -> None:
    (other,) = due(connect, 1)
    (lost,) = due(connect, 1)
    Grant.objects.filter(pk=other.pk).update(refresh_due_at=database_now() - timedelta(minutes=5))
    Grant.objects.filter(pk=lost.pk).update(fail_outcome="ambiguous", refresh_due_at=database_now())
    ProviderConfig.objects.update(problem_code="unreachable")

    (probe,) = claim_due(limit=9, trigger=Trigger.BEAT)

    assert probe.grant_id == other.pk


def test_claiming_a_few_of_many_reads_no_whole_table(connect: Connect, config: ProviderConfig) -> None:
    due(connect, 1)
    with connection.cursor() as cursor:
        cursor.execute(EIGHT_THOUSAND_MORE)
        cursor.execute("ANALYZE tokens_grant, tokens_granttokens")
        before = rows_read_one_after_another(cursor)

    claims = claim_due(limit=50, trigger=Trigger.BEAT)

    with connection.cursor() as cursor:
        assert rows_read_one_after_another(cursor) == before
    assert len(claims) == 50


def rows_read_one_after_another(cursor: Any) -> int:
    cursor.execute("SELECT pg_stat_force_next_flush()")
    cursor.execute(
        "SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname IN ('tokens_grant', 'tokens_granttokens')"
    )
    (rows,) = cursor.fetchone()
    return int(rows)


def test_one_configuration_whose_calls_hang_holds_nobody_else_up(
    connect: Connect, sandbox: SandboxThread, tmp_path: Path, settings: Any
) -> None:
    hanging = made_up_provider(sandbox, tmp_path, settings, timeout=8)
    due(connect, 60, provider_config=hanging)
    late = Grant.objects.filter(pk__in=[grant.pk for grant in due(connect, 30, due=False)])
    sandbox.fault("timeout_before", on="/generic/token", times=-1)
    worker = in_thread(lambda: drain(in_flight=20, budget=timedelta(seconds=7)))
    while len(sandbox.ledger("/generic/token")) < 20:
        time.sleep(0.05)

    late.update(refresh_due_at=database_now())
    stop = time.monotonic() + 6
    while late.filter(gen=1).count() < 30:
        assert time.monotonic() < stop, "the others waited for the one that hangs"
        time.sleep(0.05)
    worker.join()

    assert len(sandbox.ledger("/generic/token")) == 20


def test_one_configurations_backlog_holds_nobody_else_up(
    connect: Connect, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    due(connect, 400)
    sandbox.fault("latency", ms=50, times=-1)
    worker = in_thread(lambda: drain(in_flight=10))
    while len(sandbox.ledger("/oauth/token")) < 50:
        time.sleep(0.01)

    other = ProviderConfigFactory()
    sandbox.register_client(other.client_id, CLIENT_SECRET)
    (grant,) = due(connect, 1, provider_config=other)
    before = len(sandbox.ledger("/oauth/token"))
    while not (called := [c for c in sandbox.ledger("/oauth/token") if c["client_id"] == other.client_id]):
        time.sleep(0.01)
    worker.join()

    # By then at most a few rounds of the other's calls had begun.
    assert called[0]["n"] - before < 50
    assert Grant.objects.get(pk=grant.pk).gen == 1
    assert Grant.objects.filter(provider_config=config, gen=1).count() == 400


def test_a_process_that_is_stopped_in_the_middle_of_a_claim_holds_nobody_up_for_long(
    connect: Connect, config: ProviderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    (grant,) = due(connect, 1)
    monkeypatch.setattr("tokens.gate.STALL_MS", 300)
    holds, may_go_on = threading.Event(), threading.Event()

    def stopped() -> None:
        with suppress(InternalError), transaction.atomic(), connection.cursor() as cursor:
            lock_one(cursor, config.pk)
            holds.set()
            may_go_on.wait()

    thread = in_thread(stopped)
    holds.wait()
    meanwhile = claim_due(limit=1, trigger=Trigger.BEAT)
    claim = claim_one(grant, trigger=Trigger.READER)
    may_go_on.set()
    thread.join()

    assert meanwhile == []
    assert claim is not None
