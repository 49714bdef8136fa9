"""The reconnect link of a `needs_reconnect` answer: what its page does, and what nobody gets by it (A1, A3, A5, A11, A17)."""

from __future__ import annotations

import base64
import re
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal.audit import SYSTEM
from portal.encryption import unseal
from portal.models import AuditEvent, Event
from portal.models.applications import digest
from portal.models.audit import ActorKind
from providers.models import ProviderConfig
from tests.factories import ApplicationFactory, GrantFactory
from tests.tokens.connecting import RETURN_URL, Browser, configured, opened, path_of
from tokens import reconnect
from tokens.models import AuthorizationRequest, Confirmation, ConnectSession, Grant, GrantStatus
from tokens.reconnect import MOST_SESSIONS, reconnect_link
from tokens.revoke import revoke

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db

KEY = "dpk_0123456789ab"


@pytest.fixture
def config(sandbox: SandboxThread) -> ProviderConfig:
    return configured(sandbox)


@pytest.fixture
def grant(config: ProviderConfig, sandbox: SandboxThread) -> Grant:
    """Return sam's connection, whose access has ended."""
    tokens = sandbox.mint(config.client_id, account="sam")[0]
    return GrantFactory.create(
        provider_config=config,
        end_user="user-1",
        account_id=tokens["account_id"],
        account_name="Sam Roe",
        needs_reconnect=True,
    )


def link_to(grant: Grant) -> str:
    """Return a new link's path."""
    return path_of(reconnect_link(grant, given_to=KEY)[0])


def press(browser: Browser, link: str) -> str:
    """Press the button; return where it leads."""
    response = browser.client.post(link)
    assert response.status_code == 303, response.content.decode()
    return str(response["Location"])


def go(browser: Browser, link: str) -> Any:
    """Press the button, consent, come back, and see the page at the end."""
    return browser.follow(browser.callback(browser.consent(press(browser, link))))


def later(monkeypatch: pytest.MonkeyPatch, by: timedelta) -> None:
    """Move the clock that links are held against."""
    monkeypatch.setattr(reconnect, "database_now", lambda: timezone.now() + by)


# --- What it is for ----------------------------------------------------------------------------------------------


def test_the_page_says_who_asks_and_its_button_repairs_the_connection_in_place(
    grant: Grant, sandbox: SandboxThread
) -> None:
    link, browser = link_to(grant), Browser(sandbox, account="sam")

    page = browser.client.get(link).content.decode()
    assert "Connect Atlassian again" in page
    assert "Acme Tasks has lost its access" in page
    assert "Continue as <strong>Sam Roe</strong>" in page
    result = go(browser, link).content.decode()

    grant.refresh_from_db()
    assert "Atlassian is connected" in result
    assert (grant.status, Grant.objects.count()) == (GrantStatus.ACTIVE, 1)
    assert "-access-token" not in str(unseal(grant.tokens, "access_token"))


def test_the_person_comes_back_to_where_the_application_last_had_them_brought(
    config: ProviderConfig, grant: Grant, sandbox: SandboxThread
) -> None:
    earlier, _ = opened(config, confirmation=Confirmation.CODE, return_url=RETURN_URL)
    ConnectSession.objects.filter(pk=earlier.pk).update(grant=grant)
    browser = Browser(sandbox, account="sam")

    result = go(browser, link_to(grant)).content.decode()
    repaired = Client().get(link_to(grant)).content.decode()
    config.application.return_origins = []
    config.application.save()
    Grant.objects.update(status=GrantStatus.NEEDS_RECONNECT)
    grant.refresh_from_db()

    assert "Back to Acme Tasks" in result
    # Of a session that nobody made the application is told nothing.
    assert f'href="{RETURN_URL}"' in repaired
    # A12: an origin that was taken off the list since counts no more, and stands in nobody's way.
    assert "Back to Acme Tasks" not in go(browser, link_to(grant)).content.decode()


def test_a1_looking_changes_nothing_not_even_for_a_preview(grant: Grant) -> None:
    link, before = link_to(grant), AuditEvent.objects.count()

    answers = [Client().get(link), Client().head(link), Client().get(link, headers={"Purpose": "prefetch"})]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert not any(answer.cookies for answer in answers if "connect" in str(answer.cookies))
    assert not ConnectSession.objects.exists()
    assert not AuthorizationRequest.objects.exists()
    assert AuditEvent.objects.count() == before


def test_a1_the_button_needs_its_csrf_token(grant: Grant) -> None:
    link, client = link_to(grant), Client(enforce_csrf_checks=True)
    page = client.get(link).content.decode()
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found

    refused = client.post(link)
    assert refused.status_code == 403
    assert not ConnectSession.objects.exists()
    assert client.post(link, {"csrfmiddlewaretoken": found[1]}).status_code == 303


def test_the_session_is_on_record_with_the_link_and_the_key_that_was_given_it(grant: Grant) -> None:
    response = Client(REMOTE_ADDR="203.0.113.7").post(link_to(grant))

    made = AuditEvent.objects.get(event=Event.CONNECT_LINK_CREATED)
    assert (made.actor_kind, made.actor_id, made.actor_name) == (ActorKind.LINK, KEY, f"link given to {KEY}")
    assert (made.ip_address, made.request_id) == ("203.0.113.7", response["X-Request-Id"])
    assert (made.subject_kind, made.subject_id) == ("grant", str(grant.pk))
    session = ConnectSession.objects.get()
    assert (session.reconnect_grant, session.end_user, session.confirmation, session.created_by) == (
        grant,
        "user-1",
        Confirmation.MEMBER,
        None,
    )


def test_wrong_methods_are_refused(grant: Grant) -> None:
    assert Client().put(link_to(grant)).status_code == Client().delete(link_to(grant)).status_code == 405


# --- A press is one session, in one browser --------------------------------------------------------------------


def test_a_double_click_makes_one_session(grant: Grant, sandbox: SandboxThread) -> None:
    link, browser = link_to(grant), Browser(sandbox, account="sam")
    press(browser, link)

    second = press(browser, link)
    result = browser.follow(browser.callback(browser.consent(second))).content.decode()

    assert ConnectSession.objects.count() == 1
    assert AuditEvent.objects.filter(event=Event.CONNECT_LINK_CREATED).count() == 1
    assert "Atlassian is connected" in result


@pytest.mark.django_db(transaction=True)
def test_eight_presses_at_once_make_one_session(grant: Grant) -> None:
    link, together, statuses = link_to(grant), threading.Barrier(8), []

    def one_press() -> None:
        try:
            client = Client()
            together.wait()
            statuses.append(client.post(link).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=one_press) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [303] * 8
    assert ConnectSession.objects.count() == 1
    assert AuditEvent.objects.filter(event=Event.CONNECT_LINK_CREATED).count() == 1


@pytest.mark.django_db(transaction=True)
def test_d8_presses_of_many_links_at_once_make_no_more_sessions_than_one_after_the_other(
    grant: Grant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "MOST_SESSIONS", 3)
    links = [path_of(reconnect_link(grant, given_to=f"{KEY}-{number}")[0]) for number in range(10)]
    together, statuses = threading.Barrier(len(links)), []

    def one_press(link: str) -> None:
        try:
            client = Client()
            together.wait()
            statuses.append(client.post(link).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=one_press, args=[link]) for link in links]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [303] * 3 + [429] * 7
    assert ConnectSession.objects.count() == 3


def test_a3_what_one_browser_began_another_does_not_finish_or_see(
    grant: Grant, sandbox: SandboxThread
) -> None:
    link, mine, other = link_to(grant), Browser(sandbox, account="sam"), Browser(sandbox, account="sam")
    callback = mine.consent(press(mine, link))

    assert other.callback(callback).status_code == 403
    result = mine.follow(mine.callback(callback))
    session = ConnectSession.objects.get()

    assert "Atlassian is connected" in result.content.decode()
    assert other.client.get(reverse("connect-result", args=[session.pk])).status_code == 404
    # The link says there that all is well, and no more than that.
    assert "See what was connected" in mine.client.get(link).content.decode()
    assert "See what was connected" not in other.client.get(link).content.decode()


def test_a5_a17_another_account_is_a_second_connection_that_works_for_nobody_yet(
    grant: Grant, sandbox: SandboxThread
) -> None:
    link, browser = link_to(grant), Browser(sandbox, account="lee")
    browser.callback(browser.consent(press(browser, link)))
    session = ConnectSession.objects.get()
    sites = browser.client.get(reverse("connect-sites", args=[session.pk])).content.decode()
    chosen = re.search(r'name="sites"[^>]*value="([^"]+)"|value="([^"]+)"[^>]*name="sites"', sites)
    assert chosen
    browser.client.post(reverse("connect-sites", args=[session.pk]), {"sites": [chosen[1] or chosen[2]]})

    page = browser.client.get(reverse("connect-result", args=[session.pk])).content.decode()
    grant.refresh_from_db()
    other = Grant.objects.exclude(pk=grant.pk).get()
    assert "another account than before" in page
    assert (grant.status, other.status) == (GrantStatus.NEEDS_RECONNECT, GrantStatus.PENDING)
    # Used up: a third account needs another link.
    assert Browser(sandbox).client.post(link).status_code == 410


# --- When it is over -----------------------------------------------------------------------------------------------


def test_it_ends_after_an_hour(grant: Grant, monkeypatch: pytest.MonkeyPatch) -> None:
    link = link_to(grant)
    later(monkeypatch, timedelta(minutes=59))
    assert Client().get(link).status_code == 200
    later(monkeypatch, timedelta(minutes=60))

    page, pressed = Client().get(link), Client().post(link)

    assert (page.status_code, pressed.status_code) == (410, 410)
    assert "This link has expired" in page.content.decode()
    assert "Open Acme Tasks again" in page.content.decode()
    assert not ConnectSession.objects.exists()


def test_an_hour_later_a_way_that_was_begun_in_time_still_ends_well(
    grant: Grant, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser(sandbox, account="sam")
    authorize = press(browser, link_to(grant))
    later(monkeypatch, timedelta(minutes=65))

    browser.callback(browser.consent(authorize))

    assert Grant.objects.get().status == GrantStatus.ACTIVE


def test_a_connection_that_works_again_is_said_kindly_and_the_link_is_dead(
    grant: Grant, sandbox: SandboxThread
) -> None:
    link, other_link = link_to(grant), link_to(grant)
    go(Browser(sandbox, account="sam"), link)

    page, pressed = Client().get(other_link), Client().post(other_link)

    assert (page.status_code, pressed.status_code) == (200, 200)
    assert "This connection works again" in page.content.decode()
    assert "<form" not in page.content.decode()
    assert ConnectSession.objects.count() == 1


def test_a_link_from_before_the_last_repair_stays_dead_when_access_ends_once_more(
    grant: Grant, sandbox: SandboxThread
) -> None:
    old = link_to(grant)
    go(Browser(sandbox, account="sam"), old)
    Grant.objects.update(status=GrantStatus.NEEDS_RECONNECT)
    unused = link_to(grant)
    grant.refresh_from_db()

    assert Client().get(old).status_code == Client().get(unused).status_code == 410
    assert Client().get(link_to(grant)).status_code == 200


def test_a_connection_that_was_revoked_is_not_repaired(grant: Grant) -> None:
    link = link_to(grant)
    revoke(grant, actor=SYSTEM)

    page, pressed = Client().get(link), Client().post(link)

    assert (page.status_code, pressed.status_code) == (410, 410)
    assert "This connection was ended" in page.content.decode()
    assert not ConnectSession.objects.exists()


@pytest.mark.parametrize("how", ["disabled", "archived", "gone"])
def test_where_nothing_may_be_connected_the_page_says_so(
    grant: Grant, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = link_to(grant)
    if how == "disabled":
        ProviderConfig.objects.update(is_enabled=False)
    elif how == "archived":
        type(grant.application).objects.update(archived_at=timezone.now())
    else:
        monkeypatch.setattr("tokens.sessions.catalog", dict)

    page, pressed = Client().get(link), Client().post(link)

    assert (page.status_code, pressed.status_code) == (403, 403)
    assert "Acme Tasks has switched Atlassian off" in page.content.decode()
    assert not ConnectSession.objects.exists()


def test_however_many_links_there_are_an_hour_makes_only_so_many_sessions(grant: Grant) -> None:
    for number in range(MOST_SESSIONS):
        link = path_of(reconnect_link(grant, given_to=f"{KEY}-{number}")[0])
        assert Client().post(link).status_code == 303
    last = link_to(grant)

    too_many = Client().post(last)
    ConnectSession.objects.filter(pk__in=ConnectSession.objects.values("pk")[:1]).update(
        created_at=timezone.now() - timedelta(minutes=61)
    )

    assert too_many.status_code == 429
    assert "This was tried too often" in too_many.content.decode()
    assert Client().post(last).status_code == 303


# --- What nobody gets by it ----------------------------------------------------------------------------------------


def spellings(link: str) -> list[str]:
    """Return other ways to write a link, and what somebody might make of it."""
    token = link.split("/")[-2]
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    flipped = [
        base64.urlsafe_b64encode(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]).rstrip(b"=").decode()
        for at in range(len(raw))
    ]
    # The same bytes, with other bits where base64 has some to spare.
    last = alphabet[alphabet.index(token[-1]) ^ 1]
    return [
        *flipped,
        token[:-1],
        token + "A",
        token + "==",
        f"{token[:-1]}{last}",
        f" {token}",
        token[:20],
        "é",
    ]


def test_a_link_that_was_tampered_with_is_none(grant: Grant) -> None:
    link = link_to(grant)
    others = [f"/connect/reconnect/{token}/" for token in spellings(link)]

    for other in others:
        page, pressed = Client().get(other), Client().post(other)
        assert (page.status_code, pressed.status_code) == (404, 404), other
        assert "Acme Tasks" not in page.content.decode()

    assert len(others) > 80
    assert not ConnectSession.objects.exists()
    assert Client().get(link).status_code == 200


def test_d1_a_link_is_worth_nothing_for_a_connection_of_another_application_or_person(
    sandbox: SandboxThread, grant: Grant, config: ProviderConfig
) -> None:
    theirs = configured(sandbox, application=ApplicationFactory(name="Other Product"))
    for config_of_other in (theirs, config):
        other = GrantFactory.create(provider_config=config_of_other, needs_reconnect=True, end_user="user-2")
        token = link_to(grant).split("/")[-2]
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        moved = base64.urlsafe_b64encode(other.pk.bytes + raw[16:]).rstrip(b"=").decode()

        response = Client().get(f"/connect/reconnect/{moved}/")

        assert response.status_code == 404


def test_it_is_no_ordinary_link_and_an_ordinary_one_is_none_of_these(
    config: ProviderConfig, grant: Grant
) -> None:
    link = link_to(grant)
    token = link.split("/")[-2]
    Client().post(link)
    _, ordinary = opened(config)

    assert Client().get(reverse("connect-page", args=[token])).status_code == 404
    assert Client().post(reverse("connect-start", args=[token])).status_code == 404
    assert Client().get(reverse("reconnect-page", args=[ordinary])).status_code == 404
    assert not ConnectSession.objects.filter(link_digest=digest(token)).exists()


def test_a11_it_comes_from_configuration_and_holds_nothing_that_can_be_read(
    grant: Grant, settings: Any
) -> None:
    settings.PUBLIC_URL = "https://portal.acme.example"

    url, _ = reconnect_link(grant, given_to=KEY)

    assert url.startswith("https://portal.acme.example/connect/reconnect/")
    token = url.split("/")[-2]
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert KEY.encode() not in raw
    assert grant.end_user.encode() not in raw
