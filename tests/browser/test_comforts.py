"""What portal.js adds, and that nothing is missing without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.urls import reverse
from playwright.sync_api import expect

from portal.models import ApiKey
from tests.browser.looks import errors_of, look
from tests.factories import GrantFactory, ProviderConfigFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.browser.conftest import SignIn
    from tests.conftest import Cast


def test_a_copy_button_copies_and_says_so(new_page: Callable[..., Page], sign_in: SignIn, cast: Cast) -> None:
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    sign_in(page, cast.owner)
    page.goto(reverse("provider-add", args=["acme-tasks", "atlassian"]))
    button = page.get_by_role("button", name="Copy the redirect URI").first

    button.click()

    expect(button).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()").endswith("/acme-tasks/atlassian")


def test_without_javascript_there_is_no_copy_button_but_the_text(
    new_page: Callable[..., Page], sign_in: SignIn, cast: Cast
) -> None:
    page = new_page(java_script_enabled=False)
    sign_in(page, cast.owner)

    page.goto(reverse("provider-add", args=["acme-tasks", "atlassian"]))

    expect(page.locator(".copy code").first).to_be_visible()
    expect(page.locator("[data-copy]").first).to_be_hidden()


def test_scopes_are_counted_while_they_are_chosen(page: Page, sign_in: SignIn, cast: Cast) -> None:
    sign_in(page, cast.owner)
    page.goto(reverse("provider-add", args=["acme-tasks", "atlassian"]))
    total = page.locator("[data-scope-total]").first
    before = int(total.inner_text())

    page.locator(".scopes input:not(:checked)").first.check()

    expect(total).to_have_text(str(before + 1))


def test_where_no_scope_is_chosen_there_is_nothing_to_copy(page: Page, sign_in: SignIn, cast: Cast) -> None:
    sign_in(page, cast.owner)
    page.goto(reverse("provider-add", args=["acme-tasks", "atlassian"]))
    button = page.get_by_role("button", name="Copy the scopes of Confluence API, classic scopes")
    expect(button).to_be_disabled()

    page.get_by_label("read:confluence-content.all").check()

    expect(button).to_be_enabled()


def test_two_clicks_send_a_form_once(page: Page, live: str) -> None:
    sent = []
    page.goto("/accounts/password/reset/")
    page.get_by_label("E-mail").fill("jo@acme.example")
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)

    page.get_by_role("button", name="Send the link").dblclick()

    page.get_by_role("heading", name="Look into your mail").wait_for()
    assert len(sent) == 1


def test_a_form_can_be_sent_again_after_going_back(page: Page, live: str) -> None:
    page.goto("/accounts/password/reset/")
    page.get_by_label("E-mail").fill("jo@acme.example")
    page.get_by_role("button", name="Send the link").click()
    page.get_by_role("heading", name="Look into your mail").wait_for()

    page.go_back()
    page.get_by_label("E-mail").fill("jo@acme.example")
    page.get_by_role("button", name="Send the link").click()

    page.get_by_role("heading", name="Look into your mail").wait_for()


def test_going_back_to_what_answered_a_form_leads_to_the_form(
    page: Page, sign_in: SignIn, cast: Cast
) -> None:
    sign_in(page, cast.owner)
    page.goto("/applications/acme-tasks/api-keys/new/")
    page.get_by_label("Name").fill("nightly")
    page.get_by_role("button", name="Make the key").click()
    page.get_by_role("alert").wait_for()
    page.get_by_label("tokens:read").check()
    page.get_by_role("button", name="Make the key").click()
    page.get_by_role("heading", name="is ready").wait_for()

    page.go_back()
    page.get_by_role("heading", name="New API key").wait_for()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.go_forward()

    page.get_by_role("heading", name="New API key").wait_for()
    assert ApiKey.objects.get().name == "nightly"


def test_menus_open_by_keyboard_and_close_by_escape(page: Page, sign_in: SignIn, cast: Cast) -> None:
    sign_in(page, cast.owner)
    page.goto(reverse("application-overview", args=["acme-tasks"]))
    menu = page.locator("details.account")
    page.locator("details.account summary").focus()

    page.keyboard.press("Enter")
    look(page, "account-menu")
    page.keyboard.press("Escape")

    expect(menu).not_to_have_attribute("open", "")
    page.wait_for_function("menu => menu.contains(document.activeElement)", arg=menu.element_handle())


def test_on_a_phone_the_menu_is_one_line_that_begins_where_one_is(
    page: Page, sign_in: SignIn, cast: Cast
) -> None:
    sign_in(page, cast.owner)
    page.set_viewport_size({"width": 375, "height": 740})
    page.goto(reverse("application-settings", args=["acme-tasks"]))
    menu = page.get_by_role("navigation", name="Acme Tasks")

    expect(menu.get_by_role("link", name="Settings")).to_be_in_viewport(ratio=1)
    expect(menu.get_by_role("link", name="Overview")).not_to_be_in_viewport()
    assert len({box["y"] for link in menu.get_by_role("link").all() if (box := link.bounding_box())}) == 1

    page.locator("details.switcher summary").focus()
    for link in menu.get_by_role("link").all():
        page.keyboard.press("Tab")
        expect(link).to_be_focused()
        expect(link).to_be_in_viewport(ratio=1)


def test_the_first_tab_skips_to_the_content(page: Page, sign_in: SignIn, cast: Cast) -> None:
    sign_in(page, cast.owner)
    page.goto(reverse("application-overview", args=["acme-tasks"]))

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    page.wait_for_function("() => document.activeElement.id === 'main'")


def test_the_pages_of_an_application_look_right(page: Page, sign_in: SignIn, cast: Cast) -> None:
    config = ProviderConfigFactory.create(application=cast.application)
    GrantFactory.create(provider_config=config)
    GrantFactory.create(provider_config=config, needs_reconnect=True)
    sign_in(page, cast.owner)

    for name in (
        "application-overview",
        "provider-list",
        "provider-gallery",
        "grant-list",
        "member-list",
        "audit-log",
        "application-settings",
    ):
        page.goto(reverse(name, args=["acme-tasks"]))

        look(page, name)

    assert errors_of(page) == []
