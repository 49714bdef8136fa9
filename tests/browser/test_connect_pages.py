"""Connecting in Chromium: the button really leads to the provider and back, and every page is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.urls import reverse
from django.utils import timezone

from portal.audit import SYSTEM
from tests.browser.keyboard import press, tab_to
from tests.browser.looks import errors_of, look
from tests.factories import GrantFactory
from tests.tokens.connecting import configured, only_grant, opened
from tokens.confirm import confirm, exchange_return_code
from tokens.failures import FAILURES
from tokens.models import Confirmation, ConnectSession, Grant, GrantStatus
from tokens.reconnect import reconnect_link

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from portal.models import Application
    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread
    from tests.browser.conftest import SignIn
    from tests.conftest import Cast

ALL_SCOPES = [
    "read:me",
    "offline_access",
    "read:jira-work",
    "write:jira-work",
    "read:jira-user",
    "read:confluence-content.all",
]


@pytest.fixture
def config(live: str, sandbox: SandboxThread, cast: Cast) -> ProviderConfig:
    application: Application = cast.application
    application.return_origins = [sandbox.url]
    application.save()
    return configured(sandbox, application=application, scopes=ALL_SCOPES)


def link(token: str) -> str:
    return reverse("connect-page", args=[token])


def consent(page: Page, account: str) -> None:
    """Answer the sandbox's consent page."""
    page.locator(f"#account-{account}").check()
    page.locator("[name=decision][value=accept]").click()


def test_the_link_of_a_needs_reconnect_answer_leads_to_the_provider_and_back(
    page: Page, config: ProviderConfig, sandbox: SandboxThread
) -> None:
    tokens = sandbox.mint(config.client_id, account="sam")[0]
    grant = GrantFactory.create(
        provider_config=config, account_id=tokens["account_id"], account_name="Sam Roe", needs_reconnect=True
    )
    url, _ = reconnect_link(grant, given_to="dpk_0123456789ab")

    page.goto(url)
    page.get_by_role("button", name="Connect Atlassian").dblclick()
    consent(page, "sam")
    page.get_by_role("heading", name="Atlassian is connected").wait_for()
    page.goto(url)
    page.get_by_role("heading", name="This connection works again").wait_for()
    page.get_by_role("link", name="See what was connected").click()

    page.get_by_role("heading", name="Atlassian is connected").wait_for()
    assert errors_of(page) == []
    assert only_grant().status == GrantStatus.ACTIVE
    assert ConnectSession.objects.count() == 1


def connect(page: Page, token: str, account: str) -> None:
    page.goto(link(token))
    page.get_by_role("button", name="Connect Atlassian").click()
    consent(page, account)


def test_a_person_connects_chooses_sites_and_goes_back_to_the_application(
    page: Page, sandbox: SandboxThread, config: ProviderConfig
) -> None:
    session, token = opened(
        config, confirmation=Confirmation.CODE, return_url=f"{sandbox.url}/?tab=apps#jira"
    )

    page.goto(link(token))
    look(page, "connect-link")
    page.get_by_role("button", name="Connect Atlassian").click()
    assert page.url.startswith(f"{sandbox.url}/authorize")
    consent(page, "jo")
    page.get_by_role("heading", name="Which sites are for Acme Tasks?").wait_for()
    look(page, "connect-sites")
    page.get_by_label("acme-labs").uncheck()
    page.get_by_role("button", name="Connect these sites").click()
    page.get_by_role("heading", name="Almost done").wait_for()
    look(page, "connect-result-code")
    page.get_by_role("button", name="Finish in Acme Tasks").click()

    page.wait_for_url(f"{sandbox.url}/?tab=apps&code=*&connect_session={session.pk}#jira")
    code = page.evaluate("new URLSearchParams(location.search).get('code')")
    assert "code" not in page.evaluate("document.referrer")
    grant = exchange_return_code(config.application, code=code, end_user="user-1", actor=SYSTEM)
    assert grant.status == GrantStatus.ACTIVE
    assert list(grant.sites.filter(is_chosen=True).values_list("name", flat=True)) == ["acme"]
    assert errors_of(page) == []


def test_the_whole_way_works_with_the_keyboard_alone(
    page: Page, sandbox: SandboxThread, config: ProviderConfig
) -> None:
    _, token = opened(config)
    page.goto(link(token))

    press(page, "Connect Atlassian")
    page.get_by_role("button", name="Accept").wait_for()
    tab_to(page, "Jo Doe")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    press(page, "Accept")
    page.get_by_role("heading", name="Which sites").wait_for()
    for name in ("acme", "acme-labs"):
        press(page, name, key="Space")
    press(page, "Connect these sites")
    page.get_by_role("alert").wait_for()
    press(page, "Choose at least one site")
    press(page, "acme", key="Space")
    press(page, "Connect these sites")

    page.get_by_role("heading", name="Almost done").wait_for()
    assert "#" not in page.url
    assert list(only_grant().sites.filter(is_chosen=True).values_list("name", flat=True)) == ["acme"]


def test_the_whole_way_works_without_javascript(
    new_page: Callable[..., Page], sandbox: SandboxThread, config: ProviderConfig
) -> None:
    page = new_page(java_script_enabled=False)
    _, token = opened(config)

    connect(page, token, "sam")

    page.get_by_role("heading", name="Almost done").wait_for()
    assert Grant.objects.count() == 1


def test_a_double_click_makes_one_trip(page: Page, sandbox: SandboxThread, config: ProviderConfig) -> None:
    session, token = opened(config)
    sandbox.fault("latency", on="/authorize", ms=600)
    page.goto(link(token))

    page.get_by_role("button", name="Connect Atlassian").dblclick(no_wait_after=True)
    page.wait_for_url(f"{sandbox.url}/authorize*")

    assert session.authorization_requests.count() == 1


def test_the_back_button_after_connecting_says_that_it_is_done(
    page: Page, sandbox: SandboxThread, config: ProviderConfig
) -> None:
    _, token = opened(config)
    connect(page, token, "sam")
    page.get_by_role("heading", name="Almost done").wait_for()

    page.goto(link(token))
    page.get_by_role("link", name="See what was connected").click()

    page.get_by_role("heading", name="Almost done").wait_for()


def test_no_site_ticked_is_said_and_nothing_is_lost(
    page: Page, sandbox: SandboxThread, config: ProviderConfig
) -> None:
    _, token = opened(config)
    connect(page, token, "jo")
    for name in ("acme-labs", "acme"):
        page.get_by_label(name).first.uncheck()

    page.get_by_role("button", name="Connect these sites").click()

    page.get_by_role("alert").wait_for()
    look(page, "connect-sites-none")
    assert not Grant.objects.exists()


def test_the_results_of_each_kind(
    page: Page, sandbox: SandboxThread, config: ProviderConfig, sign_in: SignIn, cast: Cast
) -> None:
    sandbox.set(granted_scopes=[scope for scope in ALL_SCOPES if scope != "write:jira-work"])
    earlier = GrantFactory.create(provider_config=config, end_user="user-1", account_name="Jo Doe")
    _, token = opened(config, reconnect_grant=earlier, return_url=f"{sandbox.url}/")
    page.goto(link(token))
    look(page, "connect-link-reconnect")
    connect(page, token, "sam")
    page.get_by_role("heading", name="Almost done").wait_for()
    look(page, "connect-result-another-account-and-fewer-scopes")

    sign_in(page, cast.admin)
    _, token = opened(config, end_user="test", confirmation=Confirmation.LOGIN, created_by=cast.admin)
    page.goto(link(token))
    connect(page, token, "sam")
    page.get_by_role("heading", name="Atlassian is connected").wait_for()
    look(page, "connect-result-test")


def test_the_end_users_own_page_and_how_it_ends(
    page: Page, sandbox: SandboxThread, config: ProviderConfig
) -> None:
    _, token = opened(config)
    connect(page, token, "sam")
    page.get_by_role("heading", name="Almost done").wait_for()
    confirm(only_grant(), actor=SYSTEM)
    Grant.objects.update(used_at=timezone.now())

    page.get_by_role("link", name="See or end this connection").click()
    page.get_by_role("heading", name="Atlassian in Acme Tasks").wait_for()
    look(page, "connect-my")
    page.get_by_role("link", name="Disconnect").click()
    look(page, "connect-my-disconnect")
    page.get_by_role("button", name="Disconnect").click()

    page.get_by_text("Connected apps").wait_for()
    look(page, "connect-my-disconnected")
    assert only_grant().status == GrantStatus.REVOKED


@pytest.mark.parametrize("code", [max(FAILURES, key=lambda code: len(FAILURES[code].text)), "link_expired"])
def test_a_failure_has_a_page_of_its_own(
    page: Page, sandbox: SandboxThread, config: ProviderConfig, code: str
) -> None:
    session, token = opened(config, return_url=f"{sandbox.url}/")
    page.goto(link(token))
    page.get_by_role("button", name="Connect Atlassian").click()
    page.wait_for_url(f"{sandbox.url}/authorize*")
    ConnectSession.objects.update(failure=code)

    page.goto(reverse("connect-result", args=[session.pk]))

    look(page, f"connect-failure-{code}")
    assert page.locator("h1").inner_text()


def test_waiting_for_the_provider_looks_again_by_itself(
    page: Page, sandbox: SandboxThread, config: ProviderConfig
) -> None:
    session, token = opened(config)
    page.goto(link(token))
    page.get_by_role("button", name="Connect Atlassian").click()
    page.wait_for_url(f"{sandbox.url}/authorize*")
    page.goto(reverse("connect-result", args=[session.pk]))
    session.authorization_requests.update(spent_at=timezone.now())
    page.goto(reverse("connect-result", args=[session.pk]))
    page.get_by_role("heading", name="One moment").wait_for()

    ConnectSession.objects.update(failure="cancelled")

    page.get_by_role("heading", name="You did not connect Atlassian").wait_for()
