"""Every way that connecting can fail has its own page, and says what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse

from portal.models import AuditEvent, Event
from tests.factories import CLIENT_SECRET
from tests.tokens.connecting import Browser, configured, exchanges, only_grant, opened, path_of, query_of
from tokens.failures import FAILURES
from tokens.models import Confirmation, Grant

if TYPE_CHECKING:
    from django.test import Client

    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db


@pytest.fixture
def config(sandbox: SandboxThread) -> ProviderConfig:
    return configured(sandbox)


def text_of(response: Any) -> str:
    """Return a page's text with its spaces as one."""
    return " ".join(response.content.decode().split())


def come_back_with(browser: Browser, config: ProviderConfig, token: str, **answer: str) -> Any:
    """Come back from the provider with an answer that the sandbox would not give."""
    state = query_of(browser.start(token))["state"]
    return browser.follow(browser.client.get(path_of(config.redirect_uri), {"state": state, **answer}))


@pytest.mark.parametrize("code", FAILURES)
def test_every_failure_has_words_that_fill_in(code: str) -> None:
    words = FAILURES[code]

    filled = [text.format(application="Acme", provider="Atlassian") for text in (words.title, words.text)]

    assert all("{" not in text and text for text in filled)
    assert words.admin.endswith(".")
    assert 200 <= words.status < 600


@pytest.mark.parametrize(
    ("error", "status", "title", "may_try_again"),
    [
        ("access_denied", 200, "You did not connect Atlassian", True),
        ("unauthorized_client", 400, "Acme Tasks is not set up yet", False),
        ("invalid_scope", 400, "Acme Tasks is not set up yet", False),
        ("server_error", 503, "Atlassian is not answering", True),
        ("temporarily_unavailable", 503, "Atlassian is not answering", True),
        ("something_new", 400, "Atlassian did not allow it", True),
    ],
)
def test_an_error_that_the_provider_sends_back(
    config: ProviderConfig,
    sandbox: SandboxThread,
    error: str,
    status: int,
    title: str,
    *,
    may_try_again: bool,
) -> None:
    _, token = opened(config)

    page = come_back_with(Browser(sandbox), config, token, error=error)

    assert page.status_code == status
    assert title in text_of(page)
    assert ("Try again</button>" in text_of(page)) is may_try_again
    assert exchanges(sandbox) == []
    event = AuditEvent.objects.get(event=Event.CONNECT_FAILED)
    assert event.actor_kind == "end_user"
    assert event.detail["failure"] in FAILURES


def test_an_answer_with_neither_code_nor_error(config: ProviderConfig, sandbox: SandboxThread) -> None:
    _, token = opened(config)

    page = come_back_with(Browser(sandbox), config, token)

    assert page.status_code == 400
    assert "The answer is incomplete" in text_of(page)
    assert "Atlassian sent you back without" in text_of(page)


def test_a_page_that_may_not_name_the_provider_still_begins_its_sentence_well(client: Client) -> None:
    page = client.get("/oauth/callback/acme-tasks/atlassian?state=a&state=b")

    assert page.status_code == 400
    assert "The provider sent you back without what is needed." in text_of(page)


def test_a_code_that_the_provider_refuses(config: ProviderConfig, sandbox: SandboxThread) -> None:
    _, token = opened(config)

    page = come_back_with(Browser(sandbox), config, token, code="made-up")

    assert page.status_code == 400
    assert "That took too long" in text_of(page)


def test_a_wrong_client_secret_is_not_the_persons_fault_and_is_told_to_the_admin(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    config.set_client_secret("wrong")
    config.save()
    _, token = opened(config)

    page = Browser(sandbox).arrive(token)

    config.refresh_from_db()
    assert page.status_code == 502
    assert (
        "That is nothing you did, and nothing was connected: please tell the people of Acme Tasks"
        in text_of(page)
    )
    assert "Try again</button>" not in text_of(page)
    assert config.problem_code == "client_refused"
    assert AuditEvent.objects.filter(event=Event.PROVIDER_FAILING).exists()


def test_the_problem_is_over_once_somebody_has_connected(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    config.note_problem("client_refused")

    Browser(sandbox).arrive(opened(config)[1])

    config.refresh_from_db()
    assert config.problem_code == ""


def test_a_profile_that_is_refused_is_the_admins_to_mend_and_over_once_it_is_shown(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    sandbox.set(granted_scopes=["offline_access", "read:jira-work"])
    refused = Browser(sandbox).arrive(opened(config)[1])
    config.refresh_from_db()
    problem = config.problem_code
    sandbox.set(granted_scopes="")

    Browser(sandbox).arrive(opened(config)[1])

    config.refresh_from_db()
    assert refused.status_code == 502
    assert "does not tell Acme Tasks who you are" in text_of(refused)
    assert (problem, config.problem_code) == ("profile_refused", "")


def test_a_client_secret_that_cannot_be_decrypted_fails_before_the_trip(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config)
    config.client_secret = b"damaged"
    config.save()
    browser = Browser(sandbox)

    page = browser.client.post(reverse("connect-start", args=[token]))

    session.refresh_from_db()
    assert page.status_code == 500
    assert "Something is wrong with how Acme Tasks is known to Atlassian" in text_of(page)
    assert session.failure == "unreadable_secret"
    # Going back to this page leads to the link's, since only a button leads here.
    assert f'data-shown-once="{reverse("connect-page", args=[token])}"' in page.text


def test_a_person_without_a_site_is_told_why(config: ProviderConfig, sandbox: SandboxThread) -> None:
    _, token = opened(config)

    page = Browser(sandbox, account="kim").arrive(token)

    assert page.status_code == 200
    assert "There is no site to connect" in text_of(page)
    assert not Grant.objects.exists()


@pytest.mark.parametrize(
    ("path", "kind", "options"),
    [
        ("/oauth/token", "status_before", {"status": 503}),
        ("/oauth/token", "status_after", {"status": 500}),
        ("/oauth/token", "drop_before_commit", {}),
        ("/oauth/token", "drop_after_commit", {}),
        ("/oauth/token", "truncated", {}),
        ("/oauth/token", "throttle", {}),
        ("/me", "status_before", {"status": 502}),
        ("/oauth/token/accessible-resources", "status_before", {"status": 500}),
        ("/oauth/token/accessible-resources", "truncated", {}),
        ("/oauth/token/accessible-resources", "oversized", {}),
    ],
)
def test_a_provider_in_trouble_connects_nothing_and_can_be_tried_again(
    config: ProviderConfig, sandbox: SandboxThread, path: str, kind: str, options: dict[str, Any]
) -> None:
    session, token = opened(config)
    browser = Browser(sandbox)
    sandbox.fault(kind, on=path, times=-1, **options)
    failed = browser.arrive(token)
    sandbox.clear_faults()

    again = browser.client.post(reverse("connect-again", args=[session.pk]))
    result = browser.follow(browser.callback(browser.consent(again["Location"])))

    assert failed.status_code == 503
    assert "Atlassian is not answering" in text_of(failed)
    assert again.status_code == 303
    assert "sam@acme.example" in text_of(result)
    assert Grant.objects.count() == 1


@pytest.mark.parametrize(
    ("path", "kind", "options", "failure"),
    [
        ("/oauth/token", "html_200", {}, "unreadable_answer"),
        ("/oauth/token", "empty", {}, "unreadable_answer"),
        ("/oauth/token", "null_token", {}, "unreadable_answer"),
        ("/oauth/token", "status_after", {"status": 404, "html": True}, "unreadable_answer"),
        ("/oauth/token", "status_after", {"status": 400, "body": {"error": "odd"}}, "unreadable_answer"),
        ("/me", "html_200", {}, "unreadable_profile"),
        ("/me", "status_before", {"status": 404}, "unreadable_profile"),
    ],
)
def test_an_answer_that_is_not_as_the_catalog_says_is_not_called_silence(
    config: ProviderConfig,
    sandbox: SandboxThread,
    path: str,
    kind: str,
    options: dict[str, Any],
    failure: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    session, token = opened(config)
    sandbox.fault(kind, on=path, times=-1, **options)

    page = Browser(sandbox).arrive(token)

    session.refresh_from_db()
    assert page.status_code == 502
    assert "Atlassian answered something we do not understand" in text_of(page)
    assert session.failure == failure
    assert ("Exchanging a code at atlassian came to ambiguous" in caplog.text) == (path == "/oauth/token")


def test_one_hiccup_while_the_account_is_read_is_not_noticed(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    sandbox.fault("status_before", on="/me", status=503)
    sandbox.fault("drop_before_commit", on="/oauth/token/accessible-resources")

    page = Browser(sandbox).arrive(opened(config)[1])

    assert page.status_code == 200
    assert only_grant().account_name


@pytest.mark.parametrize("account_id", ["", "a\x00b", "a\nb", "x" * 201, None, True, ["a"], {"a": 1}])
def test_a_profile_without_a_usable_account_id_connects_nothing(
    config: ProviderConfig, sandbox: SandboxThread, account_id: Any
) -> None:
    sandbox.fault("status_before", on="/me", times=-1, status=200, body={"account_id": account_id})

    page = Browser(sandbox).arrive(opened(config)[1])

    assert page.status_code == 502
    assert not Grant.objects.exists()


def test_names_in_a_profile_are_cut_to_a_line_of_printable_text(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    body = {"account_id": "712020:x", "name": " Jo\x00 <b>\nDoe" + "e" * 300, "email": 5}
    sandbox.fault("status_before", on="/me", times=-1, status=200, body=body)

    page = Browser(sandbox).arrive(opened(config)[1])

    grant = only_grant()
    assert grant.account_name.startswith("Jo <b>Doe")
    assert len(grant.account_name) <= 200
    assert grant.account_email == ""
    assert "<b>Doe" not in text_of(page)


def test_the_failure_is_forgotten_when_it_is_tried_again(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config)
    browser = Browser(sandbox)
    browser.arrive(token, decline=True)
    session.refresh_from_db()
    before = session.failure

    browser.client.post(reverse("connect-again", args=[session.pk]))

    session.refresh_from_db()
    assert (before, session.failure) == ("cancelled", "")


def test_a_failure_leads_back_to_the_application_and_says_so_in_the_address(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config, return_url="https://app.acme.example/done")

    page = Browser(sandbox).arrive(token, decline=True)

    expected = f"https://app.acme.example/done?connect_session={session.pk}&amp;connect_error=cancelled"
    assert expected in text_of(page)


def test_a_member_who_tests_reads_the_reason(cast: Any, sandbox: SandboxThread) -> None:
    config = configured(sandbox, application=cast.application)
    config.set_client_secret("wrong")
    config.save()
    _, token = opened(config, confirmation=Confirmation.LOGIN, created_by=cast.admin)
    tester = Browser(sandbox, client=cast.client("admin"))

    tested = tester.arrive(token)
    end_users = Browser(sandbox).arrive(opened(config)[1])

    assert "replace the secret on the provider page" in text_of(tested)
    assert reverse("provider-detail", args=[cast.application.slug, "atlassian"]) in text_of(tested)
    assert "replace the secret" not in text_of(end_users)


def test_trying_again_is_for_the_same_browser_only(config: ProviderConfig, sandbox: SandboxThread) -> None:
    session, token = opened(config)
    Browser(sandbox).arrive(token, decline=True)

    other = Browser(sandbox).client.post(reverse("connect-again", args=[session.pk]))

    assert other.status_code == 404


def test_no_secret_reaches_the_logs(
    config: ProviderConfig, sandbox: SandboxThread, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    _, token = opened(config)
    browser = Browser(sandbox)
    url = browser.consent(browser.start(token))
    other = Browser(sandbox)

    other.callback(url)
    browser.callback(url)

    answer = query_of(url)
    for secret in (
        answer["code"],
        answer["state"],
        token,
        CLIENT_SECRET,
        browser.client.cookies["connect"].value,
    ):
        assert secret not in caplog.text
