"""The hint to a worker is no more than that: a broker that is gone or hangs holds nobody up and breaks nothing."""

from __future__ import annotations

import time

import pytest
from django.conf import settings
from django.db import transaction
from redis import Redis

from portal import outbox
from portal.audit import SYSTEM
from portal.celery import app
from portal.models import WebhookMessage
from tests.factories import CANARY, GrantFactory
from tests.providers.peer import Peer
from tokens.revoke import revoke


@pytest.fixture
def broker():
    queue = Redis.from_url(settings.REDIS_URL)
    queue.delete("celery")
    yield queue
    queue.delete("celery")


@pytest.mark.django_db(transaction=True)
def test_one_transaction_gives_one_hint_that_carries_nothing_g5(new_endpoint, broker):
    grants = GrantFactory.create_batch(3)
    for grant in grants:
        new_endpoint(grant.application, url=f"https://app.example/{CANARY}")

    with transaction.atomic():
        for grant in grants:
            revoke(grant, actor=SYSTEM)
        assert broker.llen("celery") == 0

    assert WebhookMessage.objects.count() == 3
    assert broker.llen("celery") == 1
    (hint,) = broker.lrange("celery", 0, -1)
    assert outbox.DELIVER_TASK.encode() in hint
    assert CANARY.encode() not in hint
    assert not any(str(grant.pk).encode() in hint for grant in grants)


@pytest.mark.django_db(transaction=True)
def test_what_nobody_wants_to_hear_gives_no_hint(broker):
    revoke(GrantFactory(), actor=SYSTEM)

    assert broker.llen("celery") == 0


@pytest.mark.parametrize("kind", ["gone", "hung"])
@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_gone_or_hangs_holds_nobody_up(new_endpoint, monkeypatch, kind):
    grant = GrantFactory()
    new_endpoint(grant.application)
    with Peer(lambda peer, connection: peer.stopping.wait(30)) as silent:
        port = silent.port if kind == "hung" else 1
        monkeypatch.setattr(app.conf, "broker_write_url", f"redis://127.0.0.1:{port}/0")
        started = time.monotonic()
        revoke(grant, actor=SYSTEM)

    assert time.monotonic() - started < 5
    assert WebhookMessage.objects.get().status == "pending"
