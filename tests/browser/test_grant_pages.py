"""Overview and Connections in a real browser: pictures, accessibility, and what htmx adds."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from portal.audit import SYSTEM, record
from portal.models import Event
from providers.spec import Outcome
from tests.browser.looks import errors_of, look
from tests.factories import GrantFactory, ProviderConfigFactory, database_now
from tokens import spans
from tokens.models import ConnectSession, Grant, GrantStatus, RefreshAttempt, RefreshCount, Trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from providers.models import ProviderConfig
    from tests.browser.conftest import SignIn
    from tests.conftest import Cast

URL = "/applications/acme-tasks/"


def busy(cast: Cast) -> ProviderConfig:
    """Fill the application with connections of every kind, refreshes and failures."""
    config = ProviderConfigFactory.create(application=cast.application)
    GrantFactory.create_batch(8, provider_config=config)
    GrantFactory.create(
        provider_config=config, fail_outcome=Outcome.AMBIGUOUS, cause="Atlassian gave no usable answer"
    )
    GrantFactory.create(
        provider_config=config, fail_outcome="unreadable", cause="its tokens cannot be decrypted"
    )
    GrantFactory.create(provider_config=config, pending=True)
    GrantFactory.create(provider_config=config, needs_reconnect=True, fail_outcome=Outcome.GRANT_DEAD)
    for number, start in enumerate(spans.DAY.starts_of(database_now())):
        for outcome, count in (("ok", 20 + number % 7), ("ambiguous", 9 if 20 < number < 25 else 0)):
            if count:
                RefreshCount.objects.create(
                    provider_config=config,
                    application=cast.application,
                    starts_at=start,
                    outcome=outcome,
                    count=count,
                )
    ConnectSession.objects.create(
        application=cast.application,
        provider_config=config,
        confirmation="member",
        end_user="user-1",
        failure="cancelled",
        expires_at=database_now() + timedelta(hours=1),
    )
    return config


def told_of(config: ProviderConfig) -> Grant:
    """Return a connection with a long story."""
    grant: Grant = GrantFactory.create(
        provider_config=config,
        end_user="user-4711",
        label="Jo in sales",
        site_names=["acme", "acme-labs"],
        requested_scopes=["read:me", "offline_access", "read:jira-work", "made:up"],
        granted_scopes=["read:me", "offline_access", "read:jira-work"],
    )
    grant.sites.filter(name="acme-labs").update(is_chosen=False)
    GrantFactory.create(provider_config=config, account_id=grant.account_id, end_user="user-4712")
    record(Event.GRANT_CONNECTED, actor=SYSTEM, application=config.application, subject=grant)
    for epoch in range(1, 25):
        RefreshAttempt.objects.create(
            grant=grant,
            provider_config=config,
            gen=epoch,
            epoch=epoch,
            trigger=Trigger.BEAT,
            outcome="ambiguous" if epoch % 5 == 0 else "ok",
            cause="the answer was cut off" if epoch % 5 == 0 else "",
        )
    return grant


def test_overview_is_well_made_new_and_busy(page: Page, sign_in: SignIn, cast: Cast) -> None:
    sign_in(page, cast.owner)
    page.goto(URL)
    look(page, "overview-new")
    busy(cast)

    page.goto(URL)

    look(page, "overview")
    page.get_by_text("The same as a table").click()
    look(page, "overview-table")


def test_connections_are_well_made_empty_full_and_without_a_match(
    page: Page, sign_in: SignIn, cast: Cast
) -> None:
    sign_in(page, cast.owner)
    page.goto(URL + "connections/")
    look(page, "connections-empty")
    config = busy(cast)
    GrantFactory.create_batch(60, provider_config=config)

    page.goto(URL + "connections/")
    look(page, "connections")

    page.goto(URL + "connections/?q=nobody")
    look(page, "connections-none")


def test_the_page_of_a_connection_is_well_made(page: Page, sign_in: SignIn, cast: Cast) -> None:
    sign_in(page, cast.owner)
    config = ProviderConfigFactory.create(application=cast.application)
    pages = {
        "connection": told_of(config),
        "connection-waiting": GrantFactory.create(provider_config=config, pending=True),
        "connection-dead": GrantFactory.create(
            provider_config=config, needs_reconnect=True, fail_outcome=Outcome.GRANT_DEAD
        ),
        "connection-revoked": GrantFactory.create(provider_config=config, revoked=True),
    }

    for name, grant in pages.items():
        page.goto(grant.get_absolute_url())
        look(page, name)
    page.goto(pages["connection"].get_absolute_url() + "revoke/")
    look(page, "connection-revoke")


def test_a_connect_link_is_made_shown_and_copied(page: Page, sign_in: SignIn, cast: Cast) -> None:
    sign_in(page, cast.owner)
    ProviderConfigFactory.create(application=cast.application)
    page.goto(URL + "connections/new/")
    look(page, "connect-link-form")
    page.get_by_label("Return URL").fill("https://evil.example/")
    page.get_by_label("End user").fill("user-4711")
    page.get_by_role("button", name="Make the link").click()
    page.get_by_text("One thing needs your attention").wait_for()
    look(page, "connect-link-error")
    page.get_by_label("Return URL").fill("")

    page.get_by_role("button", name="Make the link").click()

    page.get_by_text("it is shown only once").wait_for()
    assert re.search(r"/connect/[\w-]{20,}/", page.locator(".copy code").inner_text())
    look(page, "connect-link-made")


def test_typing_searches_at_once_and_the_address_can_be_shared(
    page: Page, sign_in: SignIn, cast: Cast
) -> None:
    sign_in(page, cast.owner)
    config = ProviderConfigFactory.create(application=cast.application)
    GrantFactory.create(provider_config=config, end_user="user-4711")
    GrantFactory.create(provider_config=config, end_user="other-1")
    page.goto(URL + "connections/")

    page.get_by_label("Search end user, account or site").press_sequentially("4711")

    page.get_by_text("1 connection found").wait_for()
    page.wait_for_url("**/connections/?q=4711*")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(1)
    page.get_by_label("Status").select_option("revoked")
    page.get_by_text("No connection matches").wait_for()
    assert errors_of(page) == []


def test_search_and_paging_work_without_javascript(
    new_page: Callable[..., Page], sign_in: SignIn, cast: Cast
) -> None:
    page = new_page(java_script_enabled=False)
    sign_in(page, cast.owner)
    config = ProviderConfigFactory.create(application=cast.application)
    GrantFactory.create_batch(55, provider_config=config)
    page.goto(URL + "connections/")

    page.get_by_role("link", name="Older").click()
    expect(page.locator("tbody tr")).to_have_count(5)
    page.get_by_role("link", name="Newer").click()
    expect(page.locator("tbody tr")).to_have_count(50)
    page.get_by_label("Status").select_option("revoked")
    page.get_by_role("button", name="Search").click()

    expect(page.get_by_text("No connection matches")).to_be_visible()


def test_the_page_of_a_connection_tells_what_happens_meanwhile(
    page: Page, sign_in: SignIn, cast: Cast
) -> None:
    sign_in(page, cast.owner)
    grant = GrantFactory.create(provider_config__application=cast.application)
    page.goto(grant.get_absolute_url())
    Grant.objects.update(status=GrantStatus.NEEDS_RECONNECT, cause="access was removed at Atlassian")

    page.evaluate("htmx.trigger('[data-poll]', 'poll')")

    page.get_by_text("Access has ended.").wait_for()
    expect(page.locator("#state")).to_have_text("Needs reconnect")
    assert errors_of(page) == []


def test_health_updates_itself_and_stays_at_the_chosen_span(page: Page, sign_in: SignIn, cast: Cast) -> None:
    sign_in(page, cast.owner)
    config = busy(cast)
    page.goto(URL + "health/?span=day")
    expect(page.locator("#state")).to_have_text("Needs attention")
    config.note_problem("client_refused")

    page.evaluate("htmx.trigger('[data-poll]', 'poll')")

    page.get_by_text("Breaker open").wait_for()
    expect(page.locator("#state")).to_have_text("Something is broken")
    expect(page.get_by_role("img", name="by half hour")).to_have_count(1)
    assert errors_of(page) == []


def test_nothing_is_taken_from_under_ones_hands(page: Page, sign_in: SignIn, cast: Cast) -> None:
    sign_in(page, cast.owner)
    busy(cast)
    page.goto(URL)
    page.get_by_text("The same as a table").click()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.evaluate("htmx.trigger('[data-poll]', 'poll')")
    page.wait_for_timeout(300)

    assert asked == []
    expect(page.locator("details.more[open]")).to_have_count(1)
