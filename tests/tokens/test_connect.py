"""From the link to the result page, over real HTTP to the sandbox."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal.audit import SYSTEM
from portal.models import AuditEvent, Event
from tests.factories import ApplicationFactory, GrantFactory
from tests.tokens.connecting import Browser, configured, only_grant, opened, query_of
from tokens.connect import open_session
from tokens.errors import BadSessionRequestError, ProviderDisabledError
from tokens.models import Confirmation, ConnectSession, Grant, GrantStatus
from tokens.models.connect import SessionStatus

if TYPE_CHECKING:
    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db


@pytest.fixture
def config(sandbox: SandboxThread) -> ProviderConfig:
    return configured(sandbox)


def text_of(response: Any) -> str:
    """Return a page's text with its spaces as one."""
    return " ".join(response.content.decode().split())


# --- The link -----------------------------------------------------------------------------------------------------


def test_a_person_opens_the_link_consents_and_sees_what_was_connected(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)

    link = browser.open(token)
    result = browser.arrive(token)

    assert link.status_code == 200
    assert "Connect Atlassian" in text_of(link)
    assert "Acme Tasks" in text_of(link)
    assert result.status_code == 200
    assert "sam@acme.example" in text_of(result)
    assert "https://acme.atlassian.example" in text_of(result)
    assert only_grant().status == GrantStatus.PENDING


def test_the_page_says_in_plain_words_what_is_asked_for_in_the_catalogs_order(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    config.scopes = ["write:jira-work", "read:jira-work", "offline_access", "read:me"]
    config.save()
    _, token = opened(config)

    page = text_of(Browser(sandbox).open(token))

    places = [
        page.index(plain)
        for plain in (
            "see who you are at Atlassian",
            "stay connected until you disconnect",
            "read your Jira projects and issues",
            "create, edit and delete Jira issues as you",
        )
    ]
    assert places == sorted(places)
    assert "read:jira-work" not in page


def test_the_page_of_a_link_takes_few_queries_and_is_small(
    config: ProviderConfig, sandbox: SandboxThread, django_assert_max_num_queries: Any
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)

    with django_assert_max_num_queries(10):
        link = browser.open(token)
    done = browser.go(token)
    with django_assert_max_num_queries(10):
        result = browser.follow(done)
    with django_assert_max_num_queries(10):
        mine = browser.client.get(reverse("my-connection", args=[only_grant().pk]))

    assert all(len(page.content) < 100_000 for page in (link, result, mine))


def test_opening_the_page_changes_nothing_and_sets_no_cookie_of_ours(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config)
    before = ConnectSession.objects.filter(pk=session.pk).values().get()

    page = Browser(sandbox).open(token)

    assert ConnectSession.objects.filter(pk=session.pk).values().get() == before
    assert "connect" not in page.cookies


@pytest.mark.parametrize("token", ["x", "a" * 43, "sites", "%00", "a" * 3000])
def test_an_unknown_link_is_404_in_words(db: None, token: str) -> None:
    page = Client().get(reverse("connect-page", args=["T"]).replace("T", token))
    start = Client().post(reverse("connect-start", args=["T"]).replace("T", token))

    assert page.status_code == start.status_code == 404
    assert "We do not know this link" in text_of(page)


def test_the_cookie_is_bound_to_this_host_and_kept(
    config: ProviderConfig, sandbox: SandboxThread, settings: Any
) -> None:
    settings.INSECURE_HTTP, settings.COOKIE_PREFIX = False, "__Host-"
    _, token = opened(config)
    client = Client()

    first = client.post(reverse("connect-start", args=[token]), secure=True)
    second = client.post(reverse("connect-start", args=[token]), secure=True)

    cookie = first.cookies["__Host-connect"]
    assert len(cookie.value) == 43
    assert second.cookies["__Host-connect"].value == cookie.value
    assert (cookie["path"], cookie["domain"], cookie["samesite"]) == ("/", "", "Lax")
    assert cookie["secure"]
    assert cookie["httponly"]
    assert cookie["max-age"] == 365 * 86_400


def test_the_pages_button_may_lead_to_the_provider_and_other_forms_may_not(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)

    link = browser.open(token)
    result = browser.arrive(token)

    assert f"form-action 'self' https: {sandbox.url}" in link["Content-Security-Policy"]
    assert "form-action 'self';" in result["Content-Security-Policy"] + ";"
    assert "'unsafe-inline'" not in link["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("status", "failure", "code", "words"),
    [
        (SessionStatus.DONE, "", 410, "This link has been used"),
        (SessionStatus.CHOOSING, "", 410, "This link has been used"),
        (SessionStatus.FAILED, "abandoned", 410, "This link has expired"),
    ],
)
def test_a_link_that_is_used_up_says_so(
    config: ProviderConfig, sandbox: SandboxThread, status: str, failure: str, code: int, words: str
) -> None:
    _, token = opened(config)
    ConnectSession.objects.update(status=status, failure=failure)
    browser = Browser(sandbox)

    page = browser.open(token)
    start = browser.client.post(reverse("connect-start", args=[token]))

    assert page.status_code == start.status_code == code
    assert words in text_of(page)
    assert "Connect Atlassian</button>" not in text_of(page)


def test_an_expired_link_says_so(config: ProviderConfig, sandbox: SandboxThread) -> None:
    _, token = opened(config)
    ConnectSession.objects.update(expires_at=timezone.now())

    page = Browser(sandbox).open(token)

    assert page.status_code == 410
    assert "This link has expired" in text_of(page)
    assert "Ask the people of Acme Tasks for a new one" in text_of(page)


def test_a_link_of_a_provider_that_was_switched_off_says_so(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config)
    config.is_enabled = False
    config.save()

    page = Browser(sandbox).open(token)

    assert page.status_code == 403
    assert "Acme Tasks has switched Atlassian off" in text_of(page)


def test_a_link_whose_catalog_file_is_gone_says_that_nothing_can_be_connected(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config)
    config.provider_id = "no-longer-there"
    config.save()

    page = Browser(sandbox).open(token)

    assert page.status_code == 403


def test_a_used_link_leads_the_browser_that_used_it_to_what_came_of_it(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config)
    browser = Browser(sandbox)
    browser.arrive(token)

    page, elsewhere = browser.open(token), Browser(sandbox).open(token)

    assert reverse("connect-result", args=[session.pk]) in text_of(page)
    assert reverse("connect-result", args=[session.pk]) not in text_of(elsewhere)


def test_a_link_can_be_tried_again_after_a_cancel_but_not_without_end(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    browser.arrive(token, decline=True)

    second = browser.arrive(token)
    _, other = opened(config, end_user="user-2")
    for _ in range(20):
        browser.start(other)
    too_many = browser.client.post(reverse("connect-start", args=[other]))

    assert second.status_code == 200
    assert Grant.objects.count() == 1
    assert too_many.status_code == 429


def test_wrong_methods_are_refused(config: ProviderConfig, sandbox: SandboxThread) -> None:
    session, token = opened(config)
    client = Client()

    answers = [
        client.post(reverse("connect-page", args=[token])),
        client.get(reverse("connect-start", args=[token])),
        client.post(reverse("connect-callback", args=["acme", "atlassian"])),
        client.post(reverse("connect-result", args=[session.pk])),
        client.get(reverse("connect-again", args=[session.pk])),
        client.get(reverse("connect-return", args=[session.pk])),
        client.put(reverse("connect-sites", args=[session.pk])),
        client.post(reverse("my-connection", args=[session.pk])),
        client.delete(reverse("my-connection-disconnect", args=[session.pk])),
    ]

    assert [answer.status_code for answer in answers] == [405] * len(answers)


# --- Opening a session ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end_user", ["", "   ", "x" * 201, "a\nb", "a\x00b"])
def test_an_end_user_must_be_named_in_printable_characters(config: ProviderConfig, end_user: str) -> None:
    with pytest.raises(BadSessionRequestError):
        opened(config, end_user=end_user)


def test_a_session_can_ask_for_less_than_is_configured_but_not_for_more(config: ProviderConfig) -> None:
    session, _ = opened(config, scopes=["read:jira-user"])

    assert session.scopes == ["read:me", "offline_access", "read:jira-user"]
    with pytest.raises(BadSessionRequestError):
        opened(config, scopes=["manage:jira-configuration"])


def test_a_session_that_is_confirmed_by_code_needs_a_place_to_bring_it_to(config: ProviderConfig) -> None:
    with pytest.raises(BadSessionRequestError, match="return URL"):
        open_session(config, end_user="user-1", confirmation=Confirmation.CODE, actor=SYSTEM)


def test_no_session_is_opened_while_the_provider_is_off(config: ProviderConfig) -> None:
    config.is_enabled = False

    with pytest.raises(ProviderDisabledError):
        opened(config)


def test_a_grant_of_somebody_else_cannot_be_reconnected(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    elsewhere = configured(sandbox, application=ApplicationFactory.create(name="Other"))
    theirs = GrantFactory.create(provider_config=elsewhere, end_user="user-1")
    another_users = GrantFactory.create(provider_config=config, end_user="user-2")
    revoked = GrantFactory.create(provider_config=config, end_user="user-1", revoked=True)

    for grant in (theirs, another_users, revoked):
        with pytest.raises(BadSessionRequestError):
            opened(config, end_user="user-1", reconnect_grant=grant)


def test_the_links_token_is_not_stored(config: ProviderConfig) -> None:
    session, token = opened(config)

    stored = str(ConnectSession.objects.filter(pk=session.pk).values().get())
    logged = str(list(AuditEvent.objects.values()))

    assert token not in stored
    assert token not in logged


# --- The result ---------------------------------------------------------------------------------------------------


def test_the_result_says_that_a_member_must_confirm_the_account(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config, confirmation=Confirmation.MEMBER)

    page = text_of(Browser(sandbox).arrive(token))

    assert "The people of Acme Tasks check that this account is yours" in page
    assert "You can close this page" in page


def test_the_result_leads_back_to_the_application_to_finish_there(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config, confirmation=Confirmation.CODE)
    browser = Browser(sandbox)

    result = browser.arrive(token)
    back = browser.client.post(reverse("connect-return", args=[session.pk]))

    assert "Finish in Acme Tasks" in text_of(result)
    assert "https://app.acme.example" in result["Content-Security-Policy"]
    assert "code=" not in text_of(result)
    assert back.status_code == 303
    assert query_of(back["Location"])["connect_session"] == str(session.pk)
    assert back["Referrer-Policy"] == "no-referrer"


def test_the_result_leads_back_without_a_code_where_a_member_confirms(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config, return_url="https://app.acme.example/done")
    browser = Browser(sandbox)

    page = text_of(browser.arrive(token))
    back = browser.client.post(reverse("connect-return", args=[session.pk]))

    assert f'href="https://app.acme.example/done?connect_session={session.pk}"' in page
    assert back["Location"] == reverse("connect-result", args=[session.pk])


def test_a_members_own_test_is_active_at_once_and_leads_back_to_the_portal(
    cast: Any, sandbox: SandboxThread
) -> None:
    config = configured(sandbox, application=cast.application)
    _, token = opened(config, confirmation=Confirmation.LOGIN, created_by=cast.admin)
    browser = Browser(sandbox, client=cast.client("admin"))

    page = text_of(browser.arrive(token))

    grant = only_grant()
    assert grant.status == GrantStatus.ACTIVE
    assert grant.refresh_due_at is not None
    assert reverse("grant-detail", args=[cast.application.slug, grant.pk]) in page
    assert set(
        AuditEvent.objects.filter(event__in=[Event.CONNECT_STARTED, Event.GRANT_CONNECTED]).values_list(
            "actor_kind", "actor_name"
        )
    ) == {("member", cast.admin.email)}


def test_what_an_end_user_does_is_in_the_audit_log_under_the_applications_name_for_them(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config, end_user="user-77")

    Browser(sandbox).arrive(token)

    events = AuditEvent.objects.filter(actor_kind="end_user").order_by("id")
    assert [event.event for event in events] == [Event.CONNECT_STARTED, Event.GRANT_CONNECTED]
    assert {(event.actor_id, event.ip_address) for event in events} == {("user-77", "127.0.0.1")}


def test_the_result_before_coming_back_says_that_it_is_not_finished(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config)
    browser = Browser(sandbox)
    browser.start(token)

    page = browser.client.get(reverse("connect-result", args=[session.pk]))

    assert "Not finished yet" in text_of(page)
    assert "Refresh" not in page

    # Cancelled, tried once more, and back by the button: what came before is no answer to wait for.
    session.authorization_requests.update(spent_at=timezone.now())
    again = browser.client.post(reverse("connect-again", args=[session.pk]))
    assert again["Location"].startswith(sandbox.url)
    page = browser.client.get(reverse("connect-result", args=[session.pk]))
    assert "Go to Atlassian again" in text_of(page)


def test_the_result_while_the_answer_is_taken_looks_again_by_itself(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config)
    browser = Browser(sandbox)
    browser.start(token)
    session.authorization_requests.update(spent_at=timezone.now())

    page = browser.client.get(reverse("connect-result", args=[session.pk]))

    assert "One moment" in text_of(page)
    assert page["Refresh"] == "3"


# --- Connecting again -----------------------------------------------------------------------------------------------


def test_the_same_end_user_and_account_reconnect_in_place(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    browser = Browser(sandbox)
    browser.arrive(opened(config)[1])
    first = only_grant()

    browser.arrive(opened(config)[1])

    again = only_grant()
    assert again.pk == first.pk
    assert again.gen == first.gen + 1
    assert again.status == GrantStatus.PENDING


def test_the_page_of_a_reconnect_says_so(config: ProviderConfig, sandbox: SandboxThread) -> None:
    grant = GrantFactory.create(
        provider_config=config, end_user="user-1", account_name="Jo Doe", needs_reconnect=True
    )
    _, token = opened(config, reconnect_grant=grant)

    page = text_of(Browser(sandbox).open(token))

    assert "Connect Atlassian again" in page
    assert "Jo Doe" in page
    assert grant.account_email not in page


def test_a_second_account_is_a_second_connection_and_said_so(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    Browser(sandbox, account="sam").arrive(opened(config)[1])

    page = text_of(Browser(sandbox, account="user-1").arrive(opened(config)[1]))

    assert Grant.objects.count() == 2
    assert "This is a further connection" in page
    assert "sam@acme.example" not in page


def test_a_link_pressed_in_its_last_minute_is_still_good_for_the_way_back(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    url = browser.consent(browser.start(token))
    ConnectSession.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))

    browser.callback(url)

    assert Grant.objects.count() == 1
