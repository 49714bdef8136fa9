"""Several at once, on real connections: two workers, and somebody who deletes an endpoint that is just being told."""

from __future__ import annotations

import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, transaction

from portal.audit import SYSTEM, record
from portal.models import AuditEvent, Event, WebhookEndpoint, WebhookMessage
from tests.factories import GrantFactory, ProviderConfigFactory
from tokens.webhooks import endpoints
from tokens.webhooks.deliver import deliver

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db(transaction=True)

EVENTS = (Event.GRANT_NEEDS_RECONNECT, Event.GRANT_RECONNECTED, Event.GRANT_RECOVERED, Event.GRANT_REVOKED)


def in_thread(work: Callable[[], Any]) -> Any:
    """Do something on a database connection of its own."""
    try:
        return work()
    finally:
        connection.close()


def test_two_workers_at_once_deliver_each_message_once_and_in_order(new_endpoint, receiver, monkeypatch):
    monkeypatch.setattr("tokens.webhooks.deliver.is_delivered_elsewhere", lambda: False)
    config = ProviderConfigFactory()
    new_endpoint(config.application)
    for grant in GrantFactory.create_batch(6, provider_config=config):
        for event in EVENTS:
            record(event, actor=SYSTEM, application=config.application, subject=grant)

    with ThreadPoolExecutor(2) as pool:
        tries = sum(pool.map(in_thread, [deliver, deliver]))

    assert tries == len(receiver.received) == 24
    told = defaultdict(list)
    for request in receiver.received:
        told[request.data["grant_id"]].append(request.type)
    assert (
        list(told.values())
        == [["grant.needs_reconnect", "grant.reconnected", "grant.recovered", "grant.revoked"]] * 6
    )
    assert not WebhookMessage.objects.exclude(status="delivered").exists()


def test_a_second_worker_leaves_the_outbox_to_one_that_is_at_it(new_endpoint, receiver):
    config = ProviderConfigFactory()
    new_endpoint(config.application)
    first, second = GrantFactory.create_batch(2, provider_config=config)
    arrived, go_on = threading.Event(), threading.Event()

    def hold(request):
        arrived.set()
        if len(receiver.received) == 1:
            go_on.wait(10)

    receiver.before = hold
    record(Event.GRANT_REVOKED, actor=SYSTEM, application=config.application, subject=first)
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(in_thread, deliver)
        assert arrived.wait(10)
        record(Event.GRANT_REVOKED, actor=SYSTEM, application=config.application, subject=second)
        assert deliver() == 0
        while len(receiver.received) < 2:
            assert not busy.done()
        go_on.set()

        assert busy.result() == 2


def test_an_endpoint_that_is_deleted_while_it_is_told_breaks_no_change(new_endpoint):
    grant = GrantFactory()
    endpoint, _ = new_endpoint(grant.application)

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            record(Event.GRANT_REVOKED, actor=SYSTEM, application=grant.application, subject=grant)
            gone = pool.submit(in_thread, lambda: endpoints.delete(endpoint, actor=SYSTEM))
            with pytest.raises(TimeoutError):
                gone.result(0.3)
        gone.result(10)

    assert AuditEvent.objects.filter(event=Event.GRANT_REVOKED).exists()
    assert not WebhookMessage.objects.exists()
    assert not WebhookEndpoint.objects.exists()


def test_two_admins_can_t_both_make_the_last_endpoint_that_fits(new_endpoint, monkeypatch):
    monkeypatch.setattr(endpoints, "MOST_ENDPOINTS", 1)
    application = ProviderConfigFactory().application

    def make() -> bool:
        try:
            new_endpoint(application)
        except endpoints.TooManyEndpointsError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(in_thread, [make] * 4))

    assert sorted(made) == [False, False, False, True]
