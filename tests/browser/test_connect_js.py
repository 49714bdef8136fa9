"""connect.js in Chromium, with the application and the portal on two sites: pop-up, redirect, and all that goes wrong."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect

from portal import api_keys
from portal.audit import SYSTEM
from providers.models import ProviderConfig
from tests.browser.application import application_at
from tests.browser.looks import errors_of
from tests.processes import ROOT
from tests.tokens.connecting import configured, only_grant
from tokens.guide import connect_js, snippets
from tokens.models import ConnectSession, Grant, GrantStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Page

    from providers.sandbox.thread import SandboxThread
    from tests.browser.application import Application
    from tests.conftest import Cast

LARGEST = 5000
ANY_ORIGIN = {"Access-Control-Allow-Origin": "*", "Content-Type": "text/javascript"}
PHONE = {"has_touch": True, "is_mobile": True}


@pytest.fixture
def shop(live: str, sandbox: SandboxThread, cast: Cast) -> Iterator[Application]:
    """Serve an application of the portal's."""
    config = configured(sandbox, application=cast.application)
    _, key = api_keys.create(config.application, name="back end", permissions=["connect"], actor=SYSTEM)
    with application_at(live, key) as shop:
        cast.application.return_origins = [shop.url]
        cast.application.save()
        yield shop


def test_every_edition_stays_where_it_is_for_pages_that_pin_it(live: str) -> None:
    editions = sorted((ROOT / "public").glob("connect.*.js"))
    newest = connect_js()

    # Whoever changes connect.js puts a copy beside it, and leaves those that are there.
    assert newest.name in {edition.name for edition in editions}
    for edition in editions:
        content = edition.read_bytes()
        assert edition.name == f"connect.{hashlib.sha256(content).hexdigest()[:12]}.js"
        with urlopen(f"{live}/{edition.name}", timeout=5) as answer:
            assert answer.read() == content
            assert "immutable" in answer.headers["Cache-Control"]
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert (ROOT / "public" / newest.name).read_bytes() == (ROOT / "public" / "connect.js").read_bytes()


def test_another_file_in_its_place_is_not_run(page: Page, shop: Application) -> None:
    config = ProviderConfig.objects.select_related("application").get()
    pinned = next(each.text for each in snippets(config.application, config) if each.name == "html")
    shop.page = f"<!doctype html><html lang='en'><title>x</title><body>{pinned}</body></html>"
    page.route(
        "**/connect.*.js", lambda route: route.fulfill(body="window.isOther = true", headers=ANY_ORIGIN)
    )

    page.goto(shop.url)

    assert page.evaluate("window.isOther") is None


def press(page: Page) -> Page:
    """Press Connect and return the pop-up."""
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Connect").click()
    return opened.value


def consent(window: Page, *, account: str = "sam", decision: str = "accept") -> None:
    """Connect in this window, up to the portal's last page."""
    window.get_by_role("button", name="Connect Atlassian").click()
    window.locator(f"#account-{account}").check()
    window.locator(f"[name=decision][value={decision}]").click()


def finish(window: Page) -> None:
    window.get_by_role("button", name="Finish in Acme Tasks").click()


def log_of(page: Page) -> list[str]:
    return page.locator("#log li").all_inner_texts()


def test_the_file_is_small_and_pages_of_any_origin_may_load_it_h3(live: str) -> None:
    with urlopen(f"{live}/connect.js", timeout=5) as answer:
        headers, content = answer.headers, answer.read()

    assert len(content) < LARGEST
    assert b'"*"' not in content
    assert headers["Content-Type"].startswith("text/javascript")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["Cache-Control"] == "max-age=3600, public"
    assert headers["ETag"]
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize("policy", ["unsafe-none", "same-origin"])
def test_the_pop_up_brings_the_code_to_the_page_that_opened_it_and_closes(
    page: Page, shop: Application, policy: str
) -> None:
    """The page's own policy may cut it off from the pop-up, as any page on the way may; ours do not."""
    shop.headers["Cross-Origin-Opener-Policy"] = policy
    page.goto(shop.url)
    if policy == "same-origin":
        # Playwright tells every page that it has the focus. To people's pages behind a pop-up this is said:
        page.evaluate("document.hasFocus = () => false")

    popup = press(page)
    with popup.expect_event("close"):
        consent(popup)
        finish(popup)

    page.get_by_text("grant active").wait_for()
    assert log_of(page) == ["grant active"]
    assert only_grant().status == GrantStatus.ACTIVE
    assert [result["connect_session"] for result in shop.results] == [shop.sessions[0]["id"]]
    assert page.url == f"{shop.url}/"
    assert errors_of(page) == []


def test_a_double_click_makes_one_session_and_a_slow_network_has_a_page(
    page: Page, shop: Application
) -> None:
    shop.may_answer.clear()
    page.goto(shop.url)

    popup = press(page)
    page.get_by_role("button", name="Connect").click()
    page.get_by_role("button", name="Connect").dblclick()
    popup.get_by_text("One moment").wait_for()
    shop.may_answer.set()
    popup.get_by_role("button", name="Connect Atlassian").wait_for()

    assert len(page.context.pages) == 2
    assert len(shop.sessions) == ConnectSession.objects.count() == 1


def test_a_pop_up_that_is_closed_is_said_so_and_pressing_again_starts_anew(
    page: Page, shop: Application
) -> None:
    page.goto(shop.url)
    shop.may_answer.clear()
    early = press(page)
    early.get_by_text("One moment").wait_for()
    early.close()
    expect(page.locator("#log li")).to_have_text(["error closed"])
    shop.may_answer.set()

    late = press(page)
    late.get_by_role("button", name="Connect Atlassian").click()
    late.locator("#account-sam").wait_for()
    late.close()
    expect(page.locator("#log li")).to_have_text(["error closed"] * 2)

    again = press(page)
    with again.expect_event("close"):
        consent(again)
        finish(again)
    expect(page.locator("#log li")).to_have_text(["error closed"] * 2 + ["grant active"])


def test_cancelling_comes_back_with_its_code_and_a_strange_session_opens_nothing(
    page: Page, shop: Application, sandbox: SandboxThread
) -> None:
    page.goto(shop.url)
    popup = press(page)
    with popup.expect_event("close"):
        consent(popup, decision="cancel")
        popup.get_by_role("link", name="Back to Acme Tasks").click()
    expect(page.locator("#log li")).to_have_text(["error cancelled"])

    shop.session_url = f"{sandbox.url}/"
    popup = press(page)
    expect(page.locator("#log li")).to_have_text(["error cancelled", "error bad_session"])

    assert popup.is_closed()
    assert not Grant.objects.exists()


def test_two_tabs_get_what_is_theirs(page: Page, shop: Application) -> None:
    other = page.context.new_page()
    page.goto(shop.url)
    other.goto(shop.url)

    # One after the other: a browser that is new gets its cookie from the first.
    first = press(page)
    first.get_by_role("button", name="Connect Atlassian").wait_for()
    second = press(other)
    with second.expect_event("close"):
        consent(second, account="jo")
        second.get_by_role("button", name="Connect these sites").click()
        finish(second)
    other.get_by_text("grant active").wait_for()
    assert log_of(page) == []
    with first.expect_event("close"):
        consent(first)
        finish(first)
    page.get_by_text("grant active").wait_for()

    assert [result["connect_session"] for result in shop.results] == [
        shop.sessions[1]["id"],
        shop.sessions[0]["id"],
    ]


def test_on_a_phone_the_page_itself_goes_and_comes_back(
    new_page: Callable[..., Page], shop: Application
) -> None:
    page = new_page(**PHONE)
    page.goto(shop.url)

    page.get_by_role("button", name="Connect").click()
    page.get_by_role("button", name="Connect Atlassian").wait_for()
    page.go_back()
    page.get_by_role("button", name="Connect").click()
    consent(page)
    finish(page)

    page.get_by_text("grant active").wait_for()
    # The code is neither in the address nor in the history, and a reload spends nothing.
    assert page.url == f"{shop.url}/?tab=apps"
    page.reload()
    page.get_by_role("heading", name="Acme Tasks").wait_for()
    assert len(shop.results) == 1
    assert len(page.context.pages) == 1


def test_without_a_pop_up_or_somebody_who_waits_the_page_comes_back_by_itself(
    page: Page, shop: Application
) -> None:
    page.goto(shop.url)
    page.evaluate("window.open = () => null")
    page.get_by_role("button", name="Connect").click()
    page.wait_for_url(f"{shop.portal}/connect/**")
    consent(page, decision="cancel")
    page.get_by_role("link", name="Back to Acme Tasks").click()
    page.get_by_text("returned cancelled").wait_for()

    # A plain link, without any script before it.
    page.goto(shop.make_session()["url"])
    consent(page)
    finish(page)
    page.get_by_text("grant active").wait_for()


@pytest.mark.parametrize("place", ["manual", "portal"])
def test_the_page_in_the_manual_and_on_the_portal_works_as_it_is_pasted(
    page: Page, shop: Application, place: str
) -> None:
    manual = (ROOT / "docs" / "connect-js.md").read_text().replace("https://portal.example.com", shop.portal)
    pasted, variant = (re.search(rf"```{kind}\n(.*?)```", manual, re.DOTALL)[1] for kind in ("html", "js"))
    config = ProviderConfig.objects.select_related("application").get()
    pinned = next(each.text for each in snippets(config.application, config) if each.name == "html")
    # The portal's is of one edition, and otherwise the same.
    assert (
        re.sub(
            r"/connect\.[0-9a-f]{12}\.js\" integrity=\"sha384-[\w+/=]+\" crossorigin>",
            '/connect.js">',
            pinned,
        )
        == pasted
    )
    if place == "portal":
        pasted = pinned
    shop.page = f"<!doctype html><html lang='en'><title>Settings</title><body>{pasted}</body></html>"

    page.goto(shop.url)
    popup = press(page)
    with popup.expect_event("close"):
        consent(popup)
        finish(popup)
    page.get_by_text("Atlassian is connected.").wait_for()

    with page.expect_popup() as opened:
        page.evaluate(f"(token) => {{ {variant} }}", "a CSRF token")
    opened.value.get_by_role("button", name="Connect Atlassian").wait_for()
    assert errors_of(page) == []


def test_a12_a_page_of_another_origin_that_opened_the_link_hears_nothing(
    page: Page, shop: Application, sandbox: SandboxThread
) -> None:
    page.goto(f"{sandbox.url}/")
    page.evaluate("window.heard = []; addEventListener('message', (event) => heard.push(event.data))")
    with page.expect_popup() as opened:
        page.evaluate("url => { window.popup = open(url) }", shop.make_session()["url"])
    popup = opened.value

    consent(popup)
    finish(popup)

    popup.get_by_text("grant active").wait_for()
    assert popup.evaluate("opener !== null")
    assert page.evaluate("window.heard") == []
