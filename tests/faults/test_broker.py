"""A real worker, a real beat, a real broker that is flushed. What else may happen to them: tests/faults/test_bench.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.core.cache import cache
from redis import Redis

from tests.factories import CANARY, CLIENT_SECRET, GrantFactory, ProviderConfigFactory
from tests.processes import wait_until
from tokens.models import Grant

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
