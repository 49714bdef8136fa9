"""The end user's own page: what is connected, and how to take it back."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal.audit import SYSTEM
from portal.models import AuditEvent, Event
from tests.tokens.connecting import Browser, configured, only_grant, opened
from tokens.confirm import confirm
from tokens.housekeeping import tidy
from tokens.models import ConnectSession, Grant, GrantStatus, GrantTokens

if TYPE_CHECKING:
    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db


@pytest.fixture
def config(sandbox: SandboxThread) -> ProviderConfig:
    return configured(sandbox)


@pytest.fixture
def browser(config: ProviderConfig, sandbox: SandboxThread) -> Browser:
    """Return a browser in which Sam has connected."""
    browser = Browser(sandbox)
    browser.arrive(opened(config)[1])
    return browser


def text_of(response: Any) -> str:
    return " ".join(response.content.decode().split())


def page_of(browser: Browser) -> Any:
    return browser.client.get(reverse("my-connection", args=[only_grant().pk]))


def test_it_shows_what_is_connected_and_since_when(config: ProviderConfig, browser: Browser) -> None:
    confirm(only_grant(), actor=SYSTEM)
    Grant.objects.update(used_at=timezone.now())

    page = text_of(page_of(browser))

    assert "Atlassian in Acme Tasks" in page
    assert "sam@acme.example" in page
    assert "https://acme.atlassian.example" in page
    assert "read your Jira projects and issues" in page
    assert "You connected" in page
    assert "The account was confirmed" in page
    assert "Last used" in page
    assert "never" not in page


def test_the_result_page_leads_to_it(browser: Browser) -> None:
    session = ConnectSession.objects.get()

    result = browser.client.get(reverse("connect-result", args=[session.pk]))

    assert reverse("my-connection", args=[only_grant().pk]) in text_of(result)


def test_disconnecting_asks_first(browser: Browser) -> None:
    url = reverse("my-connection-disconnect", args=[only_grant().pk])

    page = browser.client.get(url)

    assert page.status_code == 200
    assert "Disconnect Atlassian from Acme Tasks?" in text_of(page)
    assert only_grant().status == GrantStatus.PENDING


def test_disconnecting_erases_everything_and_says_truthfully_what_is_left_at_the_provider(
    sandbox: SandboxThread, browser: Browser
) -> None:
    grant = only_grant()

    response = browser.client.post(reverse("my-connection-disconnect", args=[grant.pk]))
    page = text_of(browser.follow(response))

    assert only_grant().status == GrantStatus.REVOKED
    assert not GrantTokens.objects.exists()
    assert "Disconnected" in page
    assert "Atlassian offers no way for us to end access on its side" in page
    assert "open your Atlassian account, Connected apps" in page
    assert f"{sandbox.url}/manage-profile/apps" in page
    event = AuditEvent.objects.get(event=Event.GRANT_REVOKED)
    assert (event.actor_kind, event.actor_id) == ("end_user", "user-1")
    assert sandbox.ledger("/oauth/revoke") == []


def test_disconnecting_twice_changes_nothing(browser: Browser) -> None:
    url = reverse("my-connection-disconnect", args=[only_grant().pk])
    browser.client.post(url)

    again, look = browser.client.post(url), browser.client.get(url)

    assert again.status_code == look.status_code == 303
    assert AuditEvent.objects.filter(event=Event.GRANT_REVOKED).count() == 1


def test_the_result_page_of_a_disconnected_connection_says_that_it_ended(browser: Browser) -> None:
    browser.client.post(reverse("my-connection-disconnect", args=[only_grant().pk]))

    page = browser.client.get(reverse("connect-result", args=[ConnectSession.objects.get().pk]))

    assert "This connection has ended" in text_of(page)


def test_disconnecting_needs_a_csrf_token(browser: Browser) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies.update(browser.client.cookies)

    response = strict.post(reverse("my-connection-disconnect", args=[only_grant().pk]))

    assert response.status_code == 403
    assert only_grant().status == GrantStatus.PENDING


def test_another_browser_sees_nothing_also_one_that_only_pressed_the_button(
    config: ProviderConfig, sandbox: SandboxThread, browser: Browser
) -> None:
    other = Browser(sandbox)
    other.start(opened(config)[1])

    page = other.client.get(reverse("my-connection", args=[only_grant().pk]))

    assert page.status_code == 404
    assert "sam" not in text_of(page)


def test_a_connection_that_needs_reconnecting_says_so(browser: Browser) -> None:
    Grant.objects.update(status=GrantStatus.NEEDS_RECONNECT)

    page = text_of(page_of(browser))

    assert "Needs reconnect" in page
    assert "Connect again from Acme Tasks" in page


def test_the_page_is_still_there_when_old_sessions_have_been_tidied_away(browser: Browser) -> None:
    long_ago = timezone.now() - dt.timedelta(days=400)
    ConnectSession.objects.update(expires_at=long_ago)

    tidy()

    assert page_of(browser).status_code == 200


def test_a_session_is_tidied_away_once_its_connection_is_over(browser: Browser) -> None:
    browser.client.post(reverse("my-connection-disconnect", args=[only_grant().pk]))
    ConnectSession.objects.update(expires_at=timezone.now() - dt.timedelta(days=400))

    tidy()

    assert not ConnectSession.objects.exists()
