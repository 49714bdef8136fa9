"""Signing in and one's own account, in a real browser."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.core import mail
from playwright.sync_api import expect

from tests.browser.looks import errors_of, look, weight_of
from tests.factories import PASSWORD, UserFactory

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from playwright.sync_api import Page

    from tests.browser.conftest import SignIn
    from tests.conftest import Cast


def test_the_sign_in_page_lets_the_right_password_in(page: Page, cast: Cast) -> None:
    page.goto("/accounts/login/?next=/accounts/sessions/")
    look(page, "sign-in")
    page.get_by_label("E-mail").fill(cast.owner.email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)

    page.get_by_role("button", name="Sign in", exact=True).click()

    page.wait_for_url("**/accounts/sessions/")
    look(page, "sessions")


def test_a_wrong_password_is_said_and_focused(page: Page, cast: Cast) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("E-mail").fill(cast.owner.email)
    page.get_by_label("Password", exact=True).fill("not it")

    page.get_by_role("button", name="Sign in", exact=True).click()

    alert = page.get_by_role("alert")
    alert.wait_for()
    expect(alert).to_be_focused()
    look(page, "sign-in-wrong")


def test_the_demo_shows_its_login_and_takes_it_in_one_click(page: Page, live: str, settings: Any) -> None:
    settings.DEMO, settings.DEMO_PASSWORD = True, PASSWORD
    settings.SANDBOX_URL = "http://127.0.0.1:8001"
    UserFactory(email=settings.DEMO_EMAIL)
    page.goto("/accounts/login/?next=/accounts/2fa/")
    look(page, "sign-in-demo")

    page.get_by_role("button", name="Use the demo login").click()

    page.wait_for_url("**/accounts/2fa/")
    look(page, "second-factors")


def test_sign_in_works_without_javascript(new_page: Callable[..., Page], cast: Cast) -> None:
    page = new_page(java_script_enabled=False)
    page.goto("/accounts/login/?next=/accounts/sessions/")
    page.get_by_label("E-mail").fill(cast.owner.email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)

    page.get_by_role("button", name="Sign in", exact=True).click()

    page.wait_for_url("**/accounts/sessions/")
    expect(page.get_by_text("This one")).to_be_visible()


def test_a_forgotten_password_is_replaced_by_mail(page: Page, cast: Cast) -> None:
    page.goto("/accounts/password/reset/")
    look(page, "reset")
    page.get_by_label("E-mail").fill(cast.owner.email)
    page.get_by_role("button", name="Send the link").click()
    page.get_by_role("heading", name="Look into your mail").wait_for()
    look(page, "reset-sent")
    link = next(word for word in mail.outbox[0].body.split() if "/password/reset/key/" in word)

    page.goto(link)
    look(page, "reset-new-password")
    page.get_by_label("New password", exact=True).fill("short")
    page.get_by_label("New password (again)").fill("short")
    page.get_by_role("button", name="Save the new password").click()
    page.get_by_role("alert").wait_for()
    look(page, "reset-new-password-wrong")
    page.get_by_label("New password", exact=True).fill("a much longer horse")
    page.get_by_label("New password (again)").fill("a much longer horse")
    page.get_by_role("button", name="Save the new password").click()

    page.get_by_role("heading", name="Your password is changed").wait_for()
    look(page, "reset-done")


def test_an_authenticator_app_is_set_up_and_asked_for(page: Page, sign_in: SignIn, cast: Cast) -> None:
    sign_in(page, cast.owner)
    page.goto("/accounts/2fa/totp/activate/")
    look(page, "is-it-you")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("heading", name="Set up an authenticator app").wait_for()
    look(page, "authenticator")
    secret = page.locator(".copy code").inner_text()
    page.get_by_label("Authenticator code").fill(code_for(secret))

    page.get_by_role("button", name="Turn on").click()

    page.get_by_role("heading", name="Recovery codes").wait_for()
    look(page, "recovery-codes")
    for address, name in (
        ("/accounts/2fa/", "second-factors-on"),
        ("/accounts/2fa/recovery-codes/generate/", "new-codes"),
    ):
        page.goto(address)
        look(page, name)
    page.context.clear_cookies()
    page.goto("/accounts/login/")
    page.get_by_label("E-mail").fill(cast.owner.email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("heading", name="Second step").wait_for()
    look(page, "second-step")


def test_a_passkey_is_added_and_signs_in_alone(page: Page, sign_in: SignIn, cast: Cast) -> None:
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devtools.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    sign_in(page, cast.owner)
    page.goto("/accounts/2fa/webauthn/add/")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()
    page.get_by_label("Passkey").check()
    look(page, "add-key")
    page.get_by_role("button", name="Add the key").click()
    page.wait_for_url("**/recovery-codes/")
    page.goto("/accounts/2fa/webauthn/")
    look(page, "keys")
    page.get_by_role("link", name="Rename").click()
    look(page, "rename-key")
    page.go_back()
    page.get_by_role("link", name="Remove").click()
    look(page, "remove-key")
    page.context.clear_cookies()
    page.goto("/accounts/login/?next=/accounts/sessions/")

    page.get_by_role("button", name="Sign in with a passkey").click()

    page.wait_for_url("**/accounts/sessions/")
    assert errors_of(page) == []


def test_a_passkey_that_does_not_answer_is_said_in_words(page: Page, live: str) -> None:
    refuse = "navigator.credentials.get = () => Promise.reject(new DOMException('no', 'NotAllowedError'));"
    page.add_init_script(refuse)
    page.goto("/accounts/login/")

    page.get_by_role("button", name="Sign in with a passkey").click()

    page.get_by_text("The browser got no answer from a key.").wait_for()
    assert errors_of(page) == []


def test_the_other_account_pages_look_right(page: Page, sign_in: SignIn, cast: Cast) -> None:
    for address, name in (
        ("/accounts/signup/", "sign-up-closed"),
        ("/accounts/inactive/", "inactive"),
        ("/accounts/password/reset/key/1-abc/", "reset-bad-link"),
        ("/accounts/confirm-email/x/", "confirm-bad-link"),
    ):
        page.goto(address)
        look(page, name)
    sign_in(page, cast.owner)
    for address, name in (
        ("/accounts/password/change/", "password"),
        ("/accounts/email/", "e-mail"),
        ("/accounts/logout/", "sign-out"),
    ):
        page.goto(address)
        look(page, name)


def test_the_sign_in_page_is_light(page: Page, live: str) -> None:
    page.goto("/accounts/login/")

    assert 3_000 < weight_of(page) < 40_000


def code_for(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30))
