"""API keys in a real browser: made, copied, listed, revoked."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from portal import api_keys
from portal.audit import SYSTEM
from portal.models import ApiKey
from tests.browser.looks import look
from tests.factories import PASSWORD, ProviderConfigFactory, database_now

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import SignIn
    from tests.conftest import Cast

KEYS = "/applications/acme-tasks/api-keys/"


@pytest.fixture
def owner(page: Page, cast: Cast, sign_in: SignIn) -> Page:
    sign_in(page, cast.owner)
    return page


def test_a_key_from_the_empty_page_to_its_end(owner: Page, cast: Cast) -> None:
    ProviderConfigFactory(application=cast.application)
    owner.goto(KEYS)
    look(owner, "api-keys-empty")

    owner.get_by_role("link", name="New API key").click()
    look(owner, "api-key-create")
    owner.get_by_role("button", name="Make the key").click()
    owner.get_by_role("alert").wait_for()
    look(owner, "api-key-create-wrong")
    owner.get_by_label("Name").fill("production")
    owner.get_by_label("Read access tokens tokens:read", exact=True).check()
    owner.get_by_label("Atlassian").check()
    owner.get_by_role("button", name="Make the key").click()
    owner.get_by_role("heading", name="The key “production” is ready").wait_for()
    look(owner, "api-key-created")
    shown = owner.locator(".copy code").inner_text()
    assert api_keys.KEY_PATTERN.fullmatch(shown)
    expect(owner.get_by_role("button", name="Copy the API key")).to_be_visible()

    owner.get_by_role("link", name="Done").click()
    owner.get_by_role("link", name="Change production").click()
    owner.get_by_label("Only from these IP ranges").fill("203.0.113.0/24")
    look(owner, "api-key-change")
    owner.get_by_role("button", name="Save").click()
    owner.get_by_text("from 203.0.113.0/24 only").wait_for()
    owner.get_by_role("link", name="Rotate production").click()
    look(owner, "api-key-rotate")
    owner.get_by_role("button", name="Make the new key").click()
    owner.get_by_text("is let in until").wait_for()
    look(owner, "api-key-rotated")
    owner.get_by_role("link", name="Done").click()
    # The new one stands above the old.
    owner.get_by_role("link", name="Revoke production").first.click()
    look(owner, "api-key-revoke")
    owner.get_by_role("button", name="Revoke").click()
    owner.get_by_text("Nobody gets in with “production” any more.").wait_for()
    assert shown not in owner.content()


def test_a_list_of_keys(owner: Page, cast: Cast) -> None:
    made = [
        api_keys.create(
            cast.application, name=name, permissions=permissions, provider_ids=providers, actor=SYSTEM
        )
        for name, permissions, providers in (
            ("production", ["tokens:read", "connect"], []),
            ("The nightly report of the second-level support team", ["grants:read"], ["atlassian"]),
            ("everything", ["tokens:read", "connect", "grants:read", "grants:write"], []),
            ("old laptop", ["connect"], []),
        )
    ]
    api_keys.recognise(made[0][1], ip_address="2001:db8::17")
    ApiKey.objects.filter(pk=made[2][0].pk).update(networks=["203.0.113.0/24", "2001:db8:1234:5678::/64"])
    api_keys.create(
        cast.application,
        name="staging",
        permissions=["proxy"],
        lifetime=timedelta(days=9),
        actor=SYSTEM,
    )
    api_keys.rotate(made[0][0], overlap=timedelta(days=7), actor=SYSTEM)
    ApiKey.objects.filter(pk=made[1][0].pk).update(expires_at=database_now())
    api_keys.revoke(made[3][0], actor=SYSTEM)

    owner.goto(KEYS)

    look(owner, "api-keys")


def test_an_export_key(owner: Page, cast: Cast) -> None:
    ProviderConfigFactory(application=cast.application)
    owner.goto("/applications/acme-tasks/settings/")
    owner.get_by_role("link", name="Export connections…").click()
    owner.get_by_label("Password").fill(PASSWORD)
    owner.keyboard.press("Enter")
    owner.get_by_role("heading", name="Export connections").wait_for()
    look(owner, "api-key-export")

    owner.get_by_role("button", name="Make an export key").click()

    owner.get_by_text("It is shown only now").wait_for()
