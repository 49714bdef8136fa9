"""An endpoint that leads to a real receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from portal.audit import SYSTEM
from portal.models import WebhookEndpoint, WebhookMessage, WebhookType
from tests.tokens.webhooks.receiver import Receiver
from tokens.webhooks import endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from portal.models import Application


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    """Run a receiver that takes everything, on this machine, where we may send to."""
    settings.EGRESS_PLAIN_HTTP = True
    settings.EGRESS_PRIVATE_HOSTS = ["127.0.0.1"]
    with Receiver() as running:
        yield running


@pytest.fixture
def new_endpoint(receiver: Receiver) -> Callable[..., tuple[WebhookEndpoint, str]]:
    """Return a function that makes an endpoint of an application, for everything unless told otherwise."""

    def make(application: Application, **fields: Any) -> tuple[WebhookEndpoint, str]:
        values = {"name": "back end", "url": receiver.url, "types": WebhookType.values, "actor": SYSTEM}
        return endpoints.create(application, **{**values, **fields})

    return make


def due_now() -> None:
    """Let the time pass until everything that waits is due."""
    WebhookMessage.objects.filter(status="pending").update(
        next_attempt_at="2020-01-01T00:00Z", claim_until=None
    )
    WebhookEndpoint.objects.update(paused_until=None)
