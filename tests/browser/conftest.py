"""A real browser in front of a real server: `live`, `page` and `sign_in`.

Playwright's loop runs in this thread for as long as it is open. Django must be told that this is meant, and code that
starts a loop of its own (asyncio.run) can't be called from a browser test: ask the server for it, or use a thread.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.test import Client, override_settings
from django.test.testcases import LiveServerThread

from tests import chromium
from tests.browser.looks import watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page, SetCookieParam

    from portal.models import User

    SignIn = Callable[[Page, User], None]

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # Scripts run for milliseconds here: making them quick, on other threads, is most of a tenth of the work.
    "--js-flags=--no-opt --single-threaded-gc",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/tests/browser/" in item.path.as_posix():
            item.add_marker(pytest.mark.browser)


@contextmanager
def serving() -> Iterator[str]:
    """Serve the portal, its static files as in production; the address is also PUBLIC_URL."""
    # Not pytest-django's live_server: it would serve static files itself, neither hashed nor compressed.
    server = LiveServerThread("localhost", static_handler=lambda application: application)
    server.daemon = True
    with override_settings(ALLOWED_HOSTS=["localhost"]):
        server.start()
        server.is_ready.wait()
        if server.error:
            raise server.error
        url = f"http://localhost:{server.port}"
        with override_settings(PUBLIC_URL=url):
            yield url
        server.terminate()


@pytest.fixture
def live(transactional_db: None) -> Iterator[str]:
    """Serve the portal and yield its address. Ask for `sandbox` too, where Atlassian is needed."""
    with serving() as url:
        yield url


@pytest.fixture(scope="session")
def _chromium() -> str:
    path = chromium.installed()
    if path:
        return path
    message = "No Chromium was found: install one, or set CHROMIUM=/path/to/it."
    if os.environ.get("CI", "").lower() in {"true", "1"}:
        pytest.fail(message)
    pytest.skip(message)


# A module each, not a session: tests in other folders may start loops of their own.
@pytest.fixture(scope="module")
def browser(_chromium: str) -> Iterator[Browser]:
    """Start Chromium."""
    from playwright.sync_api import sync_playwright

    with pytest.MonkeyPatch.context() as patch, sync_playwright() as playwright:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        started = playwright.chromium.launch(executable_path=_chromium, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def new_page(browser: Browser, live: str) -> Iterator[Callable[..., Page]]:
    """Open pages, each in a browser profile of its own, as another person would: `new_page(java_script_enabled=False)`."""
    contexts = []

    def make(**options: Any) -> Page:
        context = browser.new_context(base_url=live, viewport={"width": 1280, "height": 860}, **options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        watch(page)
        return page

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    """Open one page."""
    return new_page()


@pytest.fixture
def sign_in(live: str) -> SignIn:
    """Sign somebody in without the sign-in page: `sign_in(page, cast.owner)`."""

    def sign_in(page: Page, user: User) -> None:
        page.context.add_cookies([session_cookie(user, live)])

    return sign_in


def session_cookie(user: User, url: str) -> SetCookieParam:
    """Sign somebody in at this address, and return the cookie that says so."""
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    name = settings.SESSION_COOKIE_NAME
    return {"name": name, "value": client.cookies[name].value, "url": url}
