"""Every page in the states that no other browser test looks at: empty, full, wrong, forbidden, broken.

One server, one database and one browser for all of them. The pages change nothing, so any order will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test import override_settings
from django.urls import reverse

from portal.models import WebhookEndpoint, WebhookMessage
from tests import database
from tests.browser import world as worlds
from tests.browser.conftest import serving, session_cookie
from tests.browser.looks import errors_of, look, watch
from tests.browser.world import BROWSER, LONG_USER, World
from tests.factories import PASSWORD
from tests.tokens.connecting import path_of
from tokens.failures import FAILURES
from tokens.reconnect import reconnect_link
from tokens.views.browser import cookie_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

    from providers.sandbox.thread import SandboxThread


pytestmark = pytest.mark.django_db


@dataclass(frozen=True)
class Look:
    """Who looks at which page, what is on it, and what they do there first."""

    path: str | Callable[[World], str]
    shows: str
    who: str = "owner"
    act: Callable[[Page], None] | None = None


def grant_page(end_user: str, page: str = "grant-detail") -> Callable[[World], str]:
    """Return a function that finds the page of an end user's connection."""

    def path(world: World) -> str:
        grant = world.grant(end_user)
        return reverse(
            page, args=[grant.application.slug, grant.pk] if page.startswith("grant") else [grant.pk]
        )

    return path


def webhook_page(name: str, page: str = "webhook-detail") -> Callable[[World], str]:
    """Return a function that finds the page of a webhook endpoint."""
    return lambda world: reverse(page, args=["states", WebhookEndpoint.objects.get(name__startswith=name).pk])


def long_message(world: World) -> str:
    return reverse(
        "webhook-message",
        args=["states", WebhookMessage.objects.get(tries=4, endpoint__name__startswith="The").uid],
    )


def reconnect_path(world: World, end_user: str) -> str:
    return path_of(reconnect_link(world.grant(end_user), given_to="dpk_0123456789ab")[0])


def failure(world: World, code: str) -> str:
    return reverse("connect-result", args=[world.failed(code).pk])


def failure_of_a_test(world: World, code: str) -> str:
    return reverse("connect-result", args=[world.test_failed(code).pk])


def save(page: Page) -> None:
    page.get_by_role("button", name="Save").click()


def paste_twice(page: Page) -> None:
    page.get_by_label("Client ID", exact=True).fill("ATOA with a space")
    page.get_by_label("read:jira-work").uncheck()
    save(page)


def far_too_many_days(page: Page) -> None:
    page.get_by_label("Used within so many days").evaluate(
        "field => { field.removeAttribute('max'); field.value = 9999 }"
    )
    save(page)


def another_app(page: Page) -> None:
    page.get_by_label("Client ID", exact=True).fill("An0therClient0fTheSameCompany123")
    save(page)


def prove_who_you_are(page: Page) -> None:
    # Once is enough for a quarter of an hour: whichever page is looked at first asks.
    if "reauthenticate" not in page.url:
        return
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "reauthenticate" not in url)


APP = "/applications"

LOOKS = {
    "applications-many": Look(f"{APP}/", "Acme Archived"),
    # --- full, with long names
    "full-overview": Look(f"{APP}/full/", "Refreshes, last 24 hours"),
    "full-health": Look(f"{APP}/full/health/?span=day", "Failures by class"),
    "full-connections": Look(f"{APP}/full/connections/", "60 connections"),
    "full-connection": Look(grant_page(LONG_USER), "not granted"),
    "full-connection-revoke": Look(grant_page(LONG_USER, "grant-revoke"), "cannot be undone"),
    "full-settings": Look(f"{APP}/full/settings/", "Allowed return origins"),
    "full-members": Look(f"{APP}/full/members/", "Sascha"),
    "full-connect-guide": Look(f"{APP}/full/connect/", "What is still missing"),
    "full-provider": Look(f"{APP}/full/providers/atlassian/", "fewer scopes than this"),
    "full-provider-another-app": Look(
        f"{APP}/full/providers/atlassian/", "Save it anyway", act=another_app
    ),
    "full-provider-support": Look(f"{APP}/full/providers/atlassian/", "Your users are asked", who="support"),
    "full-provider-disable": Look(f"{APP}/full/providers/atlassian/disable/", "nobody can connect"),
    "full-provider-freshness": Look(f"{APP}/full/providers/atlassian/freshness/", "Whatever you choose"),
    "full-provider-freshness-wrong": Look(f"{APP}/full/providers/atlassian/freshness/", "less than or equal", act=far_too_many_days),
    "full-provider-let-end": Look(
        f"{APP}/full/providers/atlassian/let-end/", "too many at once to believe", act=prove_who_you_are
    ),
    "full-provider-delete": Look(
        f"{APP}/full/providers/atlassian/delete/", "60 connections", act=prove_who_you_are
    ),
    "full-connect": Look(lambda world: reverse("connect-page", args=[world.link]), "Connect Atlassian", who="nobody"),
    # --- empty
    "empty-overview-support": Look(f"{APP}/empty/", "An owner or admin does this", who="support"),
    "empty-health-support": Look(f"{APP}/empty/health/", "Nothing to keep fresh yet", who="support"),
    "empty-providers-support": Look(f"{APP}/empty/providers/", "An owner or admin", who="support"),
    "empty-connect-guide-support": Look(f"{APP}/empty/connect/", "There is none yet", who="support"),
    "empty-gallery-none": Look(f"{APP}/empty/providers/add/?q=made-up", "No provider like that"),
    "empty-add-provider-wrong": Look(f"{APP}/empty/providers/add/atlassian/", "Paste the client secret", act=paste_twice),
    "empty-link": Look(f"{APP}/empty/connections/new/", "There is no provider to connect"),
    # --- one connection in each state
    "state-pending-support": Look(grant_page("pending"), "An owner or admin confirms it", who="support"),
    "state-unreadable": Look(grant_page("unreadable"), "Unreadable"),
    "state-retrying": Look(grant_page("retrying"), "Retrying"),
    "state-ended-auditor": Look(grant_page("ended"), "Access has ended", who="auditor"),
    "state-health": Look(f"{APP}/states/health/", "waits for a person"),
    "state-paused": Look(grant_page("paused"), "Paused"),
    "state-gone": Look(grant_page("gone"), "no longer in the catalog"),
    "my-waiting": Look(grant_page("pending", "my-connection"), "Waiting for confirmation", who="nobody"),
    "my-ended": Look(grant_page("ended", "my-connection"), "no longer accepts", who="nobody"),
    "my-revoked": Look(grant_page("revoked", "my-connection"), "has no access", who="nobody"),
    "manage-open": Look("/connect/manage/not-opened-yet/", "The page opens in this browser alone", who="newcomer"),
    "manage-full": Look(lambda world: world.manage_page(LONG_USER), "Your connections in", who="nobody"),
    "manage-ended": Look(lambda world: world.manage_page("ended"), "no longer accepts", who="nobody"),
    "manage-empty": Look(lambda world: world.manage_page("nobody-yet"), "Nothing is connected", who="nobody"),
    "manage-disconnect": Look(
        lambda world: f"{world.manage_page(LONG_USER)}disconnect/{world.grant(LONG_USER).pk}/", "Keep it", who="nobody"
    ),
    "manage-closed": Look("/connect/manage/nothing/", "This page is closed", who="nobody"),
    # --- webhooks
    "webhooks-many": Look(f"{APP}/states/webhooks/", "Failing"),
    "webhook-full": Look(webhook_page("The nightly"), "Redeliver all that failed"),
    "webhook-gone": Look(webhook_page("gone"), "It answered 410 Gone"),
    "webhook-message-long": Look(long_message, "The worker stopped before"),
    # --- broken and switched off
    "broken-overview": Look(f"{APP}/broken/", "Connecting that failed"),
    "broken-health": Look(f"{APP}/broken/health/?span=week", "Breaker open", who="auditor"),
    "broken-providers": Look(f"{APP}/broken/providers/", "Not in the catalog"),
    "broken-provider": Look(f"{APP}/broken/providers/atlassian/", "It does not work just now"),
    "broken-provider-gone": Look(f"{APP}/broken/providers/gitlab-of-our-own/", "Its catalog file is gone"),
    "off-overview": Look(f"{APP}/off/", "Overview"),
    "off-provider": Look(f"{APP}/off/providers/atlassian/", "This provider is disabled"),
    "archived-overview": Look(f"{APP}/archived/", "This application is archived"),
    "api-reference": Look("/api/docs", "Every error, and what to do", who="nobody"),
    # --- what is not there, or not for everybody
    "forbidden": Look(f"{APP}/full/settings/", "You may not do that", who="support"),
    "not-found": Look(f"{APP}/never-heard-of/", "There is nothing here"),
    "other-ways-in": Look("/accounts/3rdparty/", "Other ways in"),
    # --- connecting that failed
    "failed-to-try-again": Look(lambda world: failure(world, "cancelled"), "Try again", who="nobody"),
    "failed-test": Look(lambda world: failure_of_a_test(world, "wrong_client_secret"), "For you as a member"),
    "reconnect-link": Look(lambda world: reconnect_path(world, "ended"), "Connect Atlassian again", who="nobody"),
    "reconnect-link-repaired": Look(lambda world: reconnect_path(world, "retrying"), "works again", who="nobody"),
    "failed-no-such-link": Look("/connect/nothing/", "We do not know this link", who="nobody"),
}  # fmt: skip


@pytest.fixture(scope="module")
def world(
    django_db_setup: None, django_db_blocker: Any, browser: Browser, _sandbox: SandboxThread
) -> Iterator[World]:
    with (
        django_db_blocker.unblock(),
        override_settings(SANDBOX_URL=_sandbox.url, EGRESS_PLAIN_HTTP=True),
        serving() as url,
    ):
        world = worlds.make()
        world.contexts.update(_contexts(browser, url, world))
        yield world
        for context in world.contexts.values():
            context.close()
        # Other tests come after these.
        database.empty()
        # Playwright's loop has a connection of its own, which nobody else would close.
        connection.close()


def _contexts(browser: Browser, url: str, world: World) -> Iterator[tuple[str, BrowserContext]]:
    for who in ("owner", "support", "auditor", "nobody", "newcomer"):
        context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 860})
        context.set_default_timeout(10_000)
        if who != "newcomer":
            context.add_cookies([{"name": cookie_name(), "value": BROWSER, "url": url}])
        if who not in ("nobody", "newcomer"):
            context.add_cookies([session_cookie(getattr(world, who), url)])
        yield who, context


@pytest.fixture
def open_page(world: World) -> Callable[[str], Page]:
    """Give everybody one tab for all their pages: each new one is a process more, which has read none of our files."""

    def open_page(who: str) -> Page:
        page = world.pages.get(who)
        if page is None:
            page = world.pages[who] = world.contexts[who].new_page()
            watch(page)
        errors_of(page).clear()
        return page

    return open_page


@pytest.mark.parametrize("name", LOOKS)
def test_the_page_is_well_made(world: World, open_page: Callable[[str], Page], name: str) -> None:
    seen = LOOKS[name]
    page = open_page(seen.who)

    page.goto(seen.path if isinstance(seen.path, str) else seen.path(world))
    if seen.act:
        seen.act(page)

    page.get_by_text(seen.shows).first.wait_for()
    look(page, name)


def test_every_failure_has_its_words_and_fits_a_phone(world: World, open_page: Callable[[str], Page]) -> None:
    page = open_page("nobody")
    page.set_viewport_size({"width": 360, "height": 740})

    for code, words in FAILURES.items():
        page.goto(failure(world, code))
        text = page.locator("main").inner_text()

        assert words.title.format(provider="Atlassian", application=worlds.LONG) in text, code
        assert "{" not in text, code
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, code
    assert errors_of(page) == []
