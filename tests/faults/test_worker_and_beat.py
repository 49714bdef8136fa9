"""Real workers, a real beat, a real broker: tokens stay fresh whatever is killed. The judge is the sandbox's ledger."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.core.cache import cache
from redis import Redis

from portal.encryption import unseal
from tests.factories import CANARY, CLIENT_SECRET, GrantFactory, ProviderConfigFactory, database_now
from tests.processes import wait_until
from tokens.models import Grant, GrantTokens, RefreshAttempt

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread
    from tests.processes import Processes

pytestmark = pytest.mark.slow


@pytest.fixture
def grant(processes: Processes, sandbox: SandboxThread) -> Grant:
    """Return a due grant whose tokens the sandbox knows."""
    config = ProviderConfigFactory()
    sandbox.register_client(config.client_id, CLIENT_SECRET)
    minted = sandbox.mint(config.client_id, account="jo")[0]
    return GrantFactory(
        provider_config=config,
        due=True,
        access_token=minted["access_token"],
        refresh_token=minted["refresh_token"],
    )


def gen(grant: Grant) -> int:
    return Grant.objects.values_list("gen", flat=True).get(pk=grant.pk)


def token_calls(sandbox: SandboxThread) -> list[dict[str, Any]]:
    return sandbox.ledger("/oauth/token")


def test_beat_and_worker_refresh_a_token_twice(
    grant: Grant, processes: Processes, sandbox: SandboxThread
) -> None:
    # Six seconds of life: due after about four.
    sandbox.set(access_ttl=6)
    processes.worker()
    processes.beat()

    wait_until(lambda: gen(grant) >= grant.gen + 2, seconds=60, what="two refreshes")

    assert {call["status"] for call in token_calls(sandbox)} == {200}
    assert len({call["presented"] for call in token_calls(sandbox)}) == len(token_calls(sandbox))


def test_two_beats_and_two_workers_spend_each_token_once(
    grant: Grant, processes: Processes, sandbox: SandboxThread
) -> None:
    sandbox.set(access_ttl=6)
    for name in ("one", "two"):
        processes.worker(f"worker-{name}")
        processes.beat(f"beat-{name}")

    wait_until(lambda: gen(grant) >= grant.gen + 2, seconds=60, what="two refreshes")

    calls = token_calls(sandbox)
    assert len({call["presented"] for call in calls}) == len(calls)


def test_a_worker_killed_before_it_read_the_answer_loses_nothing(
    grant: Grant, processes: Processes, sandbox: SandboxThread
) -> None:
    sandbox.fault("timeout_after", times=1)
    doomed = processes.worker("doomed")
    beat = processes.beat()
    wait_until(
        lambda: any(call["committed"] for call in token_calls(sandbox)),
        seconds=60,
        what="the provider's commit",
    )

    processes.kill(doomed)
    processes.kill(beat)
    # The claim of the dead runs out, as it would by itself after a minute and a half.
    Grant.objects.update(claim_until=database_now() - dt.timedelta(seconds=1))
    processes.worker("heir")
    processes.beat("beat-two")

    wait_until(lambda: gen(grant) == grant.gen + 1, seconds=60, what="the recovery")
    attempt = RefreshAttempt.objects.latest("id")
    assert attempt.cause == "recovered a lost answer inside the leeway"
    stored = unseal(GrantTokens.objects.select_related("grant").get(grant=grant), "access_token")
    assert stored is not None


def test_a_flushed_broker_loses_nothing_and_holds_no_secret_g5(
    grant: Grant, processes: Processes, sandbox: SandboxThread
) -> None:
    beat = processes.beat()
    broker = Redis.from_url(settings.REDIS_URL)
    wait_until(lambda: broker.llen("celery"), what="a proposal in the broker")

    held = b"".join(broker.dump(key) or b"" for key in broker.scan_iter("*"))
    processes.kill(beat)
    cache.clear()
    broker.flushdb()
    processes.worker()
    processes.beat("beat-two")

    wait_until(lambda: gen(grant) == grant.gen + 1, seconds=60, what="the refresh")
    assert CANARY.encode() not in held
    assert str(grant.pk).encode() not in held
