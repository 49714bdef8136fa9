"""Django admin's own pages under our strict policy, in our colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.models import Group
from playwright.sync_api import expect

from portal.models import User
from tests.browser.looks import look
from tests.factories import GrantFactory, ProviderConfigFactory, database_now
from tokens import spans
from tokens.models import RefreshCount

if TYPE_CHECKING:
    from typing import Any

    from playwright.sync_api import Page

    from tests.browser.conftest import SignIn

# Django's own scripts, jQuery among them, come to more than one of our pages may weigh.
HEAVIEST = 200_000


def test_admin_pages_break_no_policy(page: Page, sign_in: SignIn, live: str, settings: Any) -> None:
    settings.SANDBOX_URL = "http://127.0.0.1:8001"
    staff = User.objects.create_superuser("staff@acme.example", "a password", name="Staff")
    sign_in(page, staff)
    group = Group.objects.create(name="Helpers")
    config = ProviderConfigFactory.create()
    grant = GrantFactory.create(provider_config=config)
    for outcome, count in (("ok", 900), ("ambiguous", 40)):
        RefreshCount.objects.create(
            provider_config=config,
            application=config.application,
            starts_at=spans.DAY.starts_of(database_now())[-5],
            outcome=outcome,
            count=count,
            latencies=[0, 0, 0, count],
        )

    for address, name in (
        ("/admin/", "admin-index"),
        ("/admin/tokens/refreshcount/health/?span=day", "admin-health"),
        ("/admin/tokens/grant/", "admin-list"),
        (f"/admin/tokens/grant/{grant.pk}/change/", "admin-grant"),
        (f"/admin/portal/user/{staff.pk}/change/", "admin-user"),
        (f"/admin/auth/group/{group.pk}/change/", "admin-group"),
        (f"/admin/auth/group/{group.pk}/delete/", "admin-delete"),
        (f"/admin/portal/user/{staff.pk}/history/", "admin-history"),
    ):
        page.goto(address)

        look(page, name, heaviest=HEAVIEST)


def test_the_theme_of_the_admin_can_be_chosen(page: Page, sign_in: SignIn, live: str) -> None:
    sign_in(page, User.objects.create_superuser("staff@acme.example", "a password"))
    page.goto("/admin/")
    before = background_of(page)

    page.locator("#user-tools .theme-toggle").click()

    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert background_of(page) != before


def background_of(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))
