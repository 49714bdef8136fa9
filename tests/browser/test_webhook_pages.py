"""Webhook endpoints in a real browser: made, tested against a real receiver, rotated, disabled, deleted."""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from portal.models import WebhookEndpoint
from tests.browser.looks import look
from tests.tokens.webhooks.receiver import Receiver
from tokens.webhooks.deliver import deliver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from playwright.sync_api import Page

    from tests.browser.conftest import SignIn
    from tests.conftest import Cast

WEBHOOKS = "/applications/acme-tasks/webhooks/"


@pytest.fixture
def owner(page: Page, cast: Cast, sign_in: SignIn) -> Page:
    sign_in(page, cast.owner)
    return page


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.EGRESS_PLAIN_HTTP = True
    settings.EGRESS_PRIVATE_HOSTS = ["127.0.0.1"]
    with Receiver([(500, "Traceback: no such table"), 204]) as running:
        yield running


def work() -> None:
    """Do what a worker does, in a thread without Playwright's loop."""

    def run() -> None:
        deliver()
        from django.db import connection

        connection.close()

    thread = Thread(target=run)
    thread.start()
    thread.join()


def test_an_endpoint_from_the_empty_page_to_its_end(owner: Page, receiver: Receiver) -> None:
    owner.goto(WEBHOOKS)
    look(owner, "webhooks-empty")

    owner.get_by_role("link", name="New endpoint").click()
    owner.get_by_label("URL").fill("http://app.example.com/hook")
    owner.get_by_role("button", name="Make the endpoint").click()
    owner.get_by_role("alert").wait_for()
    look(owner, "webhook-create-wrong")
    owner.get_by_label("Name").fill("production")
    owner.get_by_label("URL").fill(receiver.url)
    owner.get_by_role("button", name="Make the endpoint").click()
    owner.get_by_role("heading", name="The endpoint “production” is ready").wait_for()
    look(owner, "webhook-created")
    secret = owner.locator(".copy code").inner_text()

    owner.get_by_role("link", name="Go to the endpoint").click()
    owner.get_by_role("button", name="Send a test event").click()
    owner.get_by_text("It is sent as soon as a worker is free").wait_for()
    work()
    # The page asks by itself.
    owner.get_by_text("Refused (500)").wait_for()
    look(owner, "webhook-message-failed")
    owner.get_by_role("button", name="Redeliver").click()
    work()
    owner.get_by_text("Taken (204)").wait_for()
    expect(owner.locator("#message-actions")).to_contain_text("Delivered")
    assert [request.verify(secret)["type"] for request in receiver.received] == ["webhook.test"] * 2
    assert receiver.received[0].id == receiver.received[1].id

    owner.get_by_role("link", name="production").click()
    owner.get_by_role("link", name="Rotate the secret").click()
    look(owner, "webhook-rotate")
    owner.get_by_role("button", name="Rotate the secret").click()
    owner.get_by_text("The earlier one signs too").wait_for()
    assert secret not in owner.content()
    owner.get_by_role("link", name="Go to the endpoint").click()
    owner.get_by_role("button", name="Disable").click()
    owner.get_by_text("Nothing is sent to “production”").wait_for()
    owner.get_by_role("button", name="Enable").click()
    owner.get_by_role("link", name="Delete").click()
    owner.get_by_role("button", name="Delete").click()
    owner.get_by_text("is told nothing more").wait_for()
    assert not WebhookEndpoint.objects.exists()
