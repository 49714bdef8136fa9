"""What beat and hints propose, on its way through the broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from redis import Redis

from portal.celery import app
from portal.outbox import DELIVER_TASK

if TYPE_CHECKING:
    from collections.abc import Iterator

QUEUES = tuple(settings.CELERY_TASK_QUEUES)


@pytest.fixture(autouse=True)
def _empty_queues() -> Iterator[None]:
    broker = Redis.from_url(settings.REDIS_URL)
    broker.delete(*QUEUES)
    yield
    broker.delete(*QUEUES)


def test_webhooks_do_not_stand_behind_the_refreshes_of_an_hour() -> None:
    for _ in range(10):
        app.send_task("tokens.tasks.refresh_due")
    app.send_task(DELIVER_TASK)
    taken: list[str] = []

    def take(body: Any, message: Any) -> None:
        taken.append(message.headers["task"])
        message.ack()

    # As a worker takes them.
    with app.connection_for_read() as broker:
        channel = broker.default_channel
        channel.basic_qos(0, 1, False)
        with app.amqp.TaskConsumer(channel, callbacks=[take]):
            for _ in range(3):
                broker.drain_events(timeout=5)

    assert DELIVER_TASK in taken
