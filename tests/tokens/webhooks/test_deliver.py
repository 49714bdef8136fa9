"""Messages on their way, over real HTTP: signed, repeated, in order, and ended where there is no use (F1-F5)."""

from __future__ import annotations

import pytest

from portal.audit import SYSTEM
from portal.models import WebhookAttempt, WebhookMessage
from tests.factories import GrantFactory
from tokens.revoke import revoke
from tokens.webhooks.deliver import deliver

pytestmark = pytest.mark.django_db


def test_f1_a_message_verifies_with_the_reference_library(new_endpoint, receiver):
    grant = GrantFactory(end_user="user-4711")
    _, secret = new_endpoint(grant.application)
    revoke(grant, actor=SYSTEM)

    assert deliver() == 1

    (request,) = receiver.received
    assert request.verify(secret)["data"]["end_user"] == "user-4711"
    assert request.headers["content-type"] == "application/json"
    assert request.path.startswith("/hook?key=")
    message = WebhookMessage.objects.get()
    assert message.status == "delivered"
    assert request.id == message.public_id
    attempt = WebhookAttempt.objects.get()
    assert (attempt.outcome, attempt.http_status, attempt.number) == ("taken", 204, 1)
    assert deliver() == 0
