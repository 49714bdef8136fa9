"""The end user's own page: reached by a link of the application, in one browser."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from portal.models import AuditEvent, Event
from tests.factories import GrantFactory, database_now
from tests.tokens.api.caller import Caller
from tests.tokens.connecting import RETURN_URL, configured, path_of
from tokens.models import Grant, GrantStatus, GrantTokens, ManageLink

if TYPE_CHECKING:
    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db


@pytest.fixture
def config(sandbox: SandboxThread) -> ProviderConfig:
    return configured(sandbox)


@pytest.fixture
def caller(config: ProviderConfig) -> Caller:
    return Caller(config.application)


def link_for(caller: Caller, **fields: str) -> str:
    return path_of(caller.post("manage-links", **{"end_user": "user-1", **fields}).json()["url"])


def opened(caller: Caller, **fields: str) -> tuple[Client, str]:
    """Open a link in a new browser, and return both browser and the page's address."""
    browser = Client()
    response = browser.post(link_for(caller, **fields))
    assert response.status_code == 303
    return browser, response["Location"]


def test_an_end_user_sees_all_of_theirs_and_nothing_else(caller, config):
    GrantFactory(provider_config=config, end_user="user-1", account_name="Jo Doe", site_names=["acme"])
    GrantFactory(provider_config=config, end_user="user-1", account_name="Jo Two", needs_reconnect=True)
    GrantFactory(provider_config=config, end_user="user-2", account_name="Sam Other")
    browser, page = opened(caller, return_url=RETURN_URL)

    text = browser.get(page).content.decode()

    for word in ("Jo Doe", "Jo Two", "acme", "Connected", "Needs reconnect", f'href="{RETURN_URL}"'):
        assert word in text
    assert "Sam Other" not in text
    events = AuditEvent.objects.filter(event__in=[Event.MANAGE_LINK_CREATED, Event.MANAGE_LINK_OPENED])
    assert [event.actor_kind for event in events.order_by("id")] == ["api_key", "end_user"]


def test_what_is_disconnected_is_erased_and_stays_in_the_history(caller, config):
    grant = GrantFactory(provider_config=config, end_user="user-1", account_name="Jo Doe")
    browser, page = opened(caller)
    confirm = reverse("manage-disconnect", args=[ManageLink.objects.get().pk, grant.pk])

    assert "Disconnect Atlassian from" in browser.get(confirm).content.decode()
    after = browser.post(confirm, follow=True).content.decode()
    again = browser.post(confirm)

    assert again.status_code == 303
    assert Grant.objects.get().status == GrantStatus.REVOKED
    assert not GrantTokens.objects.exists()
    assert "Nothing is connected" in after
    assert "Disconnected" in after
    assert AuditEvent.objects.get(event=Event.GRANT_REVOKED).actor_kind == "end_user"
    assert browser.get(page).status_code == 200


def test_a3_a_link_belongs_to_the_first_browser_that_opens_it(caller, config):
    grant = GrantFactory(provider_config=config, end_user="user-1")
    link = link_for(caller)
    first, second = Client(), Client()
    page = first.post(link)["Location"]

    assert first.get(link)["Location"] == page
    pk = ManageLink.objects.get().pk
    for response in (
        second.get(link),
        second.post(link),
        second.get(page),
        second.post(reverse("manage-disconnect", args=[pk, grant.pk])),
    ):
        assert response.status_code == 404
        assert "This page is closed" in response.content.decode()
    assert Grant.objects.get().status == GrantStatus.ACTIVE


def test_d1_through_a_link_nothing_of_another_end_user_or_application_is_reached(caller, config):
    others = GrantFactory(provider_config=config, end_user="user-2")
    foreign = GrantFactory(end_user="user-1")
    browser, page = opened(caller)
    pk = ManageLink.objects.get().pk

    assert "Nothing is connected" in browser.get(page).content.decode()
    for grant in (others, foreign):
        assert browser.post(reverse("manage-disconnect", args=[pk, grant.pk])).status_code == 404
    assert not Grant.objects.filter(status=GrantStatus.REVOKED).exists()


def test_d2_the_link_of_a_key_for_one_provider_shows_that_one(caller, config):
    GrantFactory(provider_config=config, end_user="user-1")

    browser, page = opened(Caller(config.application, "connect", provider_ids=["github"]))

    assert "Nothing is connected" in browser.get(page).content.decode()


def test_a_link_and_its_page_end(caller):
    link = link_for(caller)
    ManageLink.objects.update(expires_at=database_now())
    assert Client().get(link).status_code == 404

    browser, page = opened(caller)
    assert ManageLink.objects.latest("created_at").expires_at > database_now() + timedelta(minutes=55)
    ManageLink.objects.update(expires_at=database_now())

    assert browser.get(page).status_code == 404


def test_a_link_is_not_spent_by_a_preview_and_asks_for_one_click_at_most(caller, config):
    link, again = link_for(caller), link_for(caller)
    browser = Client(enforce_csrf_checks=True)

    for _ in range(2):
        assert Client().head(link).status_code == 200
        page = browser.get(link, headers={"Sec-Purpose": "prefetch"})
    assert not ManageLink.objects.exclude(browser_digest="").exists()
    assert AuditEvent.objects.filter(event=Event.MANAGE_LINK_OPENED).count() == 0
    assert "Open my connections" in page.content.decode()
    assert Client(enforce_csrf_checks=True).post(link).status_code == 403

    token = str(page.context["csrf_token"])
    assert browser.post(link, {"csrfmiddlewaretoken": token}).status_code == 303
    # It has been here before, so it is asked nothing; but it may look ahead.
    assert browser.head(again).status_code == 200
    assert browser.get(again, headers={"Sec-Purpose": "prefetch"}).status_code == 200
    assert ManageLink.objects.exclude(browser_digest="").count() == 1
    assert browser.get(again).status_code == 303


def test_neither_link_nor_cookie_is_stored(caller):
    link = link_for(caller)
    browser = Client()
    browser.post(link)
    (cookie,) = browser.cookies.values()

    with connection.cursor() as cursor:
        cursor.execute("SELECT m::text FROM tokens_managelink m")
        (stored,) = cursor.fetchone()
    assert link.strip("/").rpartition("/")[2] not in stored
    assert cookie.value not in stored


def test_a12_back_leads_to_an_allowed_origin_alone(caller):
    refused = caller.post("manage-links", end_user="user-1", return_url="https://evil.example/")

    assert (refused.status_code, refused.json()["code"]) == (400, "bad_return_url")

    browser, page = opened(caller, return_url=RETURN_URL)
    caller.key.application.return_origins = []
    caller.key.application.save()
    assert RETURN_URL not in browser.get(page).content.decode()


def test_the_page_costs_the_same_however_much_is_connected(caller, config, django_assert_max_num_queries):
    for _ in range(5):
        GrantFactory(provider_config=config, end_user="user-1")
    browser, page = opened(caller)

    with django_assert_max_num_queries(5):
        assert browser.get(page).status_code == 200


def test_what_is_over_pushes_nothing_that_is_not_off_the_page(caller, config, monkeypatch):
    monkeypatch.setattr("tokens.views.manage.MOST_GRANTS", 2)
    GrantFactory(provider_config=config, end_user="user-1", account_name="Jo First")
    GrantFactory.create_batch(3, provider_config=config, end_user="user-1", revoked=True)
    browser, page = opened(caller)

    assert "Jo First" in browser.get(page).content.decode()
