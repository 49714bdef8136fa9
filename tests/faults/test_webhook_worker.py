"""A real worker and a real broker: a webhook arrives at once, and again if the worker is killed over it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from portal import outbox
from portal.audit import SYSTEM
from portal.models import WebhookAttempt, WebhookMessage, WebhookType
from tests.factories import CANARY, GrantFactory
from tests.processes import wait_until
from tests.tokens.webhooks.receiver import Receiver
from tokens.revoke import revoke
from tokens.webhooks import endpoints

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.processes import Processes

pytestmark = pytest.mark.slow


@pytest.fixture
def receiver(processes: Processes) -> Iterator[Receiver]:
    processes.environment["EGRESS_PRIVATE_HOSTS"] = "127.0.0.1"
    with Receiver() as running:
        yield running


def test_a_webhook_arrives_by_the_hint_alone_and_again_after_kill_9(
    receiver: Receiver, processes: Processes
) -> None:
    grant = GrantFactory()
    endpoint, secret = endpoints.create(
        grant.application, name="back end", url=receiver.url, types=WebhookType.values, actor=SYSTEM
    )
    arrived, die = threading.Event(), threading.Event()
    times: list[float] = []

    def hold(request: Any) -> None:
        times.append(time.monotonic())
        arrived.set()
        if len(receiver.received) == 1:
            die.wait(30)

    receiver.before = hold
    doomed = processes.worker("doomed")
    wait_until(lambda: " ready." in processes.logs(), seconds=60, what="the worker")
    committed = time.monotonic()
    # No beat runs: only the hint of the commit can tell the worker.
    revoke(grant, actor=SYSTEM)
    assert arrived.wait(30)
    assert times[0] - committed < 5
    processes.kill(doomed)
    die.set()

    # The claim of the dead runs out, as it would by itself after a minute.
    WebhookMessage.objects.update(next_attempt_at="2020-01-01T00:00Z", claim_until=None)
    processes.worker("heir")
    wait_until(lambda: processes.logs().count(" ready.") == 2, seconds=60, what="the second worker")
    outbox.hint()

    wait_until(lambda: WebhookMessage.objects.get().status == "delivered", seconds=60, what="the second try")
    first, second = receiver.received
    assert (first.id, first.body) == (second.id, second.body)
    second.verify(secret)
    outcomes = WebhookAttempt.objects.order_by("number").values_list("outcome", flat=True)
    assert list(outcomes) == ["", "taken"]
    logs = processes.logs()
    assert secret.removeprefix("whsec_") not in logs
    assert f"{CANARY}-in-the-url" not in logs
    assert endpoint.secret is not None
