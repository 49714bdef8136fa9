"""The README's tour in Chromium, from signing in to the audit log, each page looked at on the way.

Signing in, adding the provider, trying it and revoking go by keyboard alone; the rest by clicks.
"""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import connection
from playwright.sync_api import expect

from portal.models import User
from tests.browser.keyboard import press, tab_to, type_into
from tests.browser.looks import look
from tests.factories import CLIENT_SECRET, PASSWORD, database_now
from tokens.engine import drain
from tokens.models import Grant, GrantStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from providers.sandbox.thread import SandboxThread
    from tests.conftest import Cast

CLIENT_ID = "Abcdefgh0123456789Abcdefgh012345"
# Django's own scripts weigh more than one of our pages may.
ADMIN_WEIGHT = 200_000


@pytest.mark.slow
def test_the_tour_of_the_readme(
    new_page: Callable[..., Page], sandbox: SandboxThread, cast: Cast, live: str
) -> None:
    sandbox.register_client(
        CLIENT_ID, CLIENT_SECRET, redirect_uris=[f"{live}/oauth/callback/acme-tasks/atlassian"]
    )
    User.objects.filter(pk=cast.owner.pk).update(is_staff=True, is_superuser=True, name="Alex")
    alex, jo = new_page(), new_page()

    sign_in(alex)
    add_a_provider(alex)
    try_it(alex)
    see_it_refresh(alex)
    break_and_repair_it(alex)
    connect_an_end_user(alex, jo)
    revoke_it(alex)
    audit_it(alex)


def sign_in(page: Page) -> None:
    page.goto("/")
    type_into(page, "E-mail", "owner@acme.example")
    type_into(page, "Password", PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Three steps to the first connection").wait_for()


def add_a_provider(page: Page) -> None:
    # The menu opens, lies on what comes next, and closes when one goes on to that.
    press(page, "Acme Tasks")
    press(page, "OAuth Providers")
    page.get_by_role("heading", name="OAuth Providers").wait_for()
    look(page, "tour-providers-none")
    # Past the menu at once.
    press(page, "Skip to the content")
    press(page, "Add Provider")
    page.get_by_role("heading", name="Add Provider").wait_for()
    press(page, "Jira issue tracking")
    page.get_by_role("heading", name="Add Atlassian").wait_for()
    press(page, "write:jira-work", key="Space")
    look(page, "tour-add-provider")

    # The secret in the field of the ID: said, focused, and nothing is lost but the secret.
    tab_to(page, "Client secret", key="Shift+Tab")
    page.keyboard.insert_text(CLIENT_SECRET)
    tab_to(page, "Client ID", key="Shift+Tab")
    page.keyboard.insert_text(CLIENT_SECRET)
    press(page, "Save")
    page.get_by_role("alert").get_by_text("This looks like the client secret.").wait_for()
    assert page.get_by_label("write:jira-work").is_checked()
    expect(page.get_by_label("Client secret", exact=True)).to_have_value("")
    expect(page.get_by_role("alert")).to_be_focused()
    look(page, "tour-add-provider-mistake")

    press(page, "This looks like the client secret")
    expect(page.get_by_label("Client ID", exact=True)).to_be_focused()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text(f"  {CLIENT_ID} ")
    type_into(page, "Client secret", CLIENT_SECRET)
    press(page, "Save")
    expect(page.get_by_text("The provider is now active.")).to_be_in_viewport()
    look(page, "tour-provider")


def try_it(page: Page) -> None:
    press(page, "Test connection")
    page.get_by_text("This is a test connection of yours").wait_for()
    look(page, "tour-connect")
    press(page, "Connect Atlassian")
    page.get_by_role("button", name="Accept").wait_for()
    look(page, "tour-consent")
    press(page, "Accept")
    page.get_by_role("heading", name="Which sites").wait_for()
    press(page, "acme-labs", key="Space")
    press(page, "Connect these sites")
    page.get_by_role("heading", name="Atlassian is connected").wait_for()
    look(page, "tour-result")
    press(page, "See the connection in the portal")
    page.get_by_role("heading", name="Account and sites").wait_for()
    look(page, "tour-connection")


def see_it_refresh(page: Page) -> None:
    before = Grant.objects.get().gen
    page.get_by_role("button", name="Refresh now").click()
    page.get_by_role("main").get_by_text("Refreshed").first.wait_for()
    assert Grant.objects.get().gen == before + 1

    let_time_pass()
    page.evaluate("htmx.trigger('[data-poll]', 'poll')")
    page.locator("dd", has_text=re.compile(f"^{before + 2}$")).wait_for()
    expect(page.locator("#state")).to_have_text("Fresh")


def break_and_repair_it(page: Page) -> None:
    address = page.url
    page.get_by_role("link", name="Revoke").click()
    page.get_by_role("link", name="Where the person removes the app").click()
    page.get_by_role("link", name="Jo Doe").click()
    page.get_by_role("button", name=re.compile("^Remove ")).click()
    page.get_by_text("The app was removed.").wait_for()
    # An ended access is believed when it has been said twice.
    let_time_pass()
    let_time_pass()
    page.goto(address)
    page.get_by_text("Access has ended.").wait_for()

    page.get_by_role("button", name="Make a reconnect link").click()
    page.goto(page.locator(".copy code").inner_text())
    page.get_by_role("button", name="Connect Atlassian").click()
    consent(page, "jo")
    page.get_by_role("button", name="Connect these sites").click()
    page.get_by_role("link", name="See the connection in the portal").click()

    page.get_by_role("heading", name="Account and sites").wait_for()
    assert page.url == address
    expect(page.locator("#state")).to_have_text("Fresh")


def connect_an_end_user(alex: Page, jo: Page) -> None:
    alex.get_by_role("navigation", name="Acme Tasks").get_by_role("link", name="Connections").click()
    alex.get_by_role("link", name="Make a connect link").click()
    alex.get_by_label("End user").fill("user-4711")
    alex.get_by_role("button", name="Make the link").click()
    link = alex.locator(".copy code").inner_text()
    press(alex, "Copy the link")
    expect(alex.get_by_role("button", name="Copy the link")).to_be_focused()

    jo.goto(link)
    jo.get_by_role("button", name="Connect Atlassian").click()
    consent(jo, "sam")
    jo.get_by_role("heading", name="Almost done").wait_for()

    alex.get_by_role("navigation", name="Acme Tasks").get_by_role("link", name="Overview").click()
    look(alex, "tour-overview-waiting")
    alex.get_by_role("link", name="user-4711").first.click()
    alex.get_by_role("heading", name="Is this user-4711’s account?").wait_for()
    alex.get_by_role("button", name="Yes, confirm").click()
    alex.get_by_role("button", name="Refresh now").wait_for()
    alex.get_by_role("navigation", name="Acme Tasks").get_by_role("link", name="Connections").click()
    expect(alex.locator("tbody .status", has_text="Fresh")).to_have_count(2)
    look(alex, "tour-connections")

    jo.get_by_role("link", name="See or end this connection").click()
    jo.locator(".status", has_text="Connected").wait_for()
    jo.get_by_role("link", name="Disconnect").click()
    jo.get_by_role("button", name="Disconnect").click()
    jo.locator(".status", has_text="Disconnected").wait_for()
    assert Grant.objects.get(end_user="user-4711").status == GrantStatus.REVOKED


def revoke_it(page: Page) -> None:
    page.locator("tbody tr", has_text="Jo Doe").get_by_role("link").first.click()
    page.get_by_role("heading", name="Account and sites").wait_for()
    press(page, "Revoke")
    page.get_by_role("heading", name="Revoke the connection").wait_for()
    press(page, "Skip to the content")
    press(page, "Revoke", key="Space")
    page.get_by_text("This connection is revoked.").wait_for()
    look(page, "tour-revoked")
    assert not Grant.objects.exclude(status=GrantStatus.REVOKED).exists()


def audit_it(page: Page) -> None:
    page.get_by_role("link", name="Audit log").click()
    rows = page.locator("tbody").inner_text()
    for words in ("Provider added", "Connected", "Connection confirmed", "Needs reconnect", "Reconnected"):
        assert words in rows
    look(page, "tour-audit-log")
    page.goto("/admin/")
    page.locator("#content").get_by_role("link", name="Connections", exact=True).last.click()
    page.locator("#searchbar").fill("user-4711")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("row", name="user-4711").wait_for()
    look(page, "tour-admin", heaviest=ADMIN_WEIGHT)


def consent(page: Page, account: str) -> None:
    """Answer the sandbox's consent page."""
    page.locator(f"#account-{account}").check()
    page.get_by_role("button", name="Accept").click()


def let_time_pass() -> None:
    """Make every connection due, and do what beat and a worker would."""
    Grant.objects.filter(status=GrantStatus.ACTIVE).update(
        refresh_due_at=database_now() - timedelta(seconds=1)
    )
    # Playwright's loop runs in this thread; the engine's needs one of its own.
    with ThreadPoolExecutor(max_workers=1) as thread:
        assert thread.submit(_drain).result() >= 1


def _drain() -> int:
    try:
        return drain()
    finally:
        connection.close()
