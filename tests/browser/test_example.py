"""examples/jira_issues, walked in Chromium: from signing in to the issues, and what it says when access has ended."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command
from django.test import override_settings
from playwright.sync_api import expect

from providers.models import ProviderConfig
from providers.sandbox.demo import ISSUES
from tests.browser.looks import errors_of
from tests.portal.test_up import free_ports
from tests.processes import wait_until
from tokens.models import Grant, GrantStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

    from providers.sandbox.thread import SandboxThread

APP = Path(__file__).parents[2] / "examples" / "jira_issues" / "app.py"


@pytest.fixture
def example(live: str, sandbox: SandboxThread) -> Iterator[str]:
    """Start the example as `make example` does, and yield its address."""
    (port,) = free_ports(1)
    url, given = f"http://127.0.0.1:{port}", io.StringIO()
    with override_settings(DEMO=True, DEMO_PASSWORD="a password of the demo"):
        call_command("seed_example", origin=url, stdout=given)
    config = ProviderConfig.objects.get()
    sandbox.register_client(
        ISSUES.client_id,
        ISSUES.client_secret,
        redirect_uris=[f"{live}/oauth/callback/acme-issues/atlassian"],
    )
    assert config.redirect_uri.startswith(live)
    env = {
        "PATH": os.environ["PATH"],
        "PORTAL": live,
        **dict(line.split("=", 1) for line in given.getvalue().splitlines()),
        "PORT": str(port),
    }
    process = subprocess.Popen(
        [sys.executable, APP], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: answers(url), seconds=30, what="the example")
        yield url
    finally:
        process.terminate()
        process.wait(10)


def answers(url: str) -> bool:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def sign_in(page: Page, url: str, name: str) -> None:
    page.goto(url)
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Sign in").click()


def connect(window: Page, account: str) -> None:
    """Do what a person does at the portal and the sandbox."""
    window.get_by_role("button", name="Connect Atlassian").click()
    window.locator(f"#account-{account}").check()
    window.locator("[name=decision][value=accept]").click()
    if account == "jo":
        window.get_by_label("acme-labs").uncheck()
        window.get_by_role("button", name="Connect these sites").click()
    window.get_by_role("button", name="Acme Issues").click()


def test_a_user_of_the_example_connects_sees_issues_and_repairs_the_connection(
    page: Page, new_page: Callable[..., Page], example: str
) -> None:
    sign_in(page, example, "robin")
    assert str(page.locator("script[src]").get_attribute("integrity")).startswith("sha384-")
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Connect Atlassian").click()
    popup = opened.value
    with popup.expect_event("close"):
        connect(popup, "jo")
    page.get_by_role("table", name="Your latest Jira issues").wait_for()
    assert {text.strip() for text in page.locator("td:last-child").all_inner_texts()} == {"acme"}
    grant = Grant.objects.get(end_user="robin")

    # Access ends; the page says so, and connecting again repairs this very connection.
    Grant.objects.update(status=GrantStatus.NEEDS_RECONNECT)
    page.reload()
    page.get_by_text("Access has ended at the provider.").wait_for()
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Connect Atlassian again").click()
    popup = opened.value
    with popup.expect_event("close"):
        connect(popup, "jo")
    page.get_by_role("table", name="Your latest Jira issues").wait_for()
    assert Grant.objects.get().pk == grant.pk
    assert errors_of(page) == []

    # Without JavaScript, and another user.
    plain = new_page(java_script_enabled=False)
    sign_in(plain, example, "sascha")
    plain.get_by_role("button", name="Connect Atlassian").click()
    connect(plain, "sam")
    expect(plain.get_by_role("table", name="Your latest Jira issues")).to_be_visible()
    assert plain.url == f"{example}/"
    plain.get_by_role("button", name="See or end the connection").click()
    plain.get_by_role("heading", name="in Acme Issues").wait_for()

    # A5: a session that this user did not begin is not finished for them, whoever's code it is.
    stolen = page.evaluate(
        "post('/connect/finish', {connect_session: 'x', code: 'y'}).then((it) => it.status)"
    )
    assert stolen == 403
