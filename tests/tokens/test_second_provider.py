"""A provider of one's own costs a file: it connects, refreshes and is revoked, all over real HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse

from portal.audit import SYSTEM
from portal.encryption import unseal
from providers import http, oauth
from providers.remove import remove
from providers.spec import Outcome
from tests.factories import MembershipFactory
from tests.tokens.connecting import Browser, only_grant, opened, query_of
from tests.tokens.made_up import SCOPES, made_up_provider
from tokens.confirm import confirm
from tokens.models import Grant, GrantStatus, GrantTokens, Trigger
from tokens.refresh import refresh_now
from tokens.revoke import revoke
from tokens.upstream import retry_due

if TYPE_CHECKING:
    from pathlib import Path

    from django.test import Client

    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db


@pytest.fixture
def config(sandbox: SandboxThread, tmp_path: Path, settings: Any) -> ProviderConfig:
    return made_up_provider(sandbox, tmp_path, settings)


@pytest.fixture
def grant(config: ProviderConfig, sandbox: SandboxThread) -> Grant:
    """Return a connection that a member has confirmed."""
    Browser(sandbox).arrive(opened(config)[1])
    return confirm(only_grant(), actor=SYSTEM)


def test_it_connects(config: ProviderConfig, sandbox: SandboxThread) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)

    link = browser.open(token).content.decode()
    url = browser.start(token)
    result = browser.follow(browser.callback(browser.consent(url))).content.decode()

    grant = only_grant()
    assert "Connect Plainhub" in link
    assert "read your notes" in link
    assert "You choose the sites" not in link
    assert query_of(url)["scope"] == ",".join(SCOPES)
    assert "audience" not in query_of(url)
    assert "sam@acme.example" in result
    assert grant.account_id == "sam"
    assert grant.granted_scopes == SCOPES
    assert not grant.sites.exists()


def test_the_client_shows_itself_by_basic_and_nothing_else(
    config: ProviderConfig, sandbox: SandboxThread, grant: Grant
) -> None:
    calls = sandbox.ledger("/generic/token")

    assert [(call["status"], call["outcome"], call["client_id"]) for call in calls] == [
        (200, "ok", config.client_id)
    ]
    assert sandbox.ledger("/oauth/token") == []


def test_it_refreshes_and_keeps_the_refresh_token_that_never_changes(
    sandbox: SandboxThread, grant: Grant
) -> None:
    before = GrantTokens.objects.get(grant=grant)

    came_to = refresh_now(grant, trigger=Trigger.MEMBER)
    again = refresh_now(grant, trigger=Trigger.MEMBER)

    after = GrantTokens.objects.get(grant=grant)
    grant.refresh_from_db()
    assert (came_to.outcome, again.outcome) == (Outcome.OK, Outcome.OK)
    assert grant.gen == 3
    assert unseal(after, "access_token") != unseal(before, "access_token")
    assert unseal(after, "refresh_token") == unseal(before, "refresh_token")
    assert [call["grant_type"] for call in sandbox.ledger("/generic/token")] == [
        "authorization_code",
        "refresh_token",
        "refresh_token",
    ]


def test_revoking_ends_it_at_the_provider_too(sandbox: SandboxThread, grant: Grant) -> None:
    revoked = revoke(grant, actor=SYSTEM)

    (call,) = sandbox.ledger("/generic/revoke")
    assert (call["status"], call["committed"]) == (200, True)
    assert revoked.status == GrantStatus.REVOKED
    assert revoked.upstream_revocation == "ended at the provider"
    assert not GrantTokens.objects.exists()
    assert [family["dead"] for family in sandbox.state()["families"]] == ["revoked by the client"]


def test_revoking_is_done_here_also_when_the_provider_does_not_answer(
    sandbox: SandboxThread, grant: Grant
) -> None:
    sandbox.fault("status_before", on="/generic/revoke", status=503)

    revoked = revoke(grant, actor=SYSTEM)

    assert revoked.status == GrantStatus.REVOKED
    assert "503" in revoked.upstream_revocation
    assert not GrantTokens.objects.exists()


def test_the_end_users_own_page_says_what_this_provider_did(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    browser = Browser(sandbox)
    browser.arrive(opened(config)[1])

    response = browser.client.post(reverse("my-connection-disconnect", args=[only_grant().pk]))
    page = browser.follow(response).content.decode()

    assert "Plainhub ends the access at once." in page
    assert "Plainhub says that it has ended the access, too." in page


def test_no_page_speaks_of_sites_where_the_provider_has_none(grant: Grant, client: Client) -> None:
    member = MembershipFactory(application=grant.application)
    client.force_login(member.user, backend="django.contrib.auth.backends.ModelBackend")

    page = client.get(reverse("grant-detail", args=[grant.application.slug, grant.pk])).content.decode()

    assert "<h2>Account</h2>" in page
    assert "<dt>Sites</dt>" not in page


def test_a_refresh_token_that_was_revoked_there_needs_a_reconnect_and_reconnecting_repairs_it(
    config: ProviderConfig, sandbox: SandboxThread, grant: Grant
) -> None:
    token = unseal(GrantTokens.objects.get(grant=grant), "refresh_token") or ""
    _revoke_at_the_provider(config, sandbox, token)

    # The verdict counts only once it has been heard twice.
    refresh_now(grant, trigger=Trigger.MEMBER)
    refresh_now(grant, trigger=Trigger.MEMBER)
    broken = only_grant().status
    _, link = opened(config, reconnect_grant=only_grant())
    Browser(sandbox).arrive(link)

    assert broken == GrantStatus.NEEDS_RECONNECT
    assert only_grant().pk == grant.pk
    assert only_grant().status == GrantStatus.ACTIVE


def _revoke_at_the_provider(config: ProviderConfig, sandbox: SandboxThread, token: str) -> None:
    request = oauth.revoke_request(config.spec, config.credentials(), token=token)
    assert request is not None
    http.send_blocking(request)


def test_a_cancel_comes_back_as_one(config: ProviderConfig, sandbox: SandboxThread) -> None:
    page = Browser(sandbox).arrive(opened(config)[1], decline=True).content.decode()

    assert "You did not connect Plainhub" in page


def test_a_wrong_secret_blames_the_configuration(config: ProviderConfig, sandbox: SandboxThread) -> None:
    config.set_client_secret("wrong")
    config.save()

    page = Browser(sandbox).arrive(opened(config)[1])

    config.refresh_from_db()
    assert page.status_code == 502
    assert config.problem_code == "client_refused"


def test_an_iss_that_the_file_does_not_name_cannot_be_judged_and_does_no_harm(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    sandbox.set(iss="https://plainhub.example")

    Browser(sandbox).arrive(opened(config)[1])

    assert Grant.objects.count() == 1


def test_deleting_the_provider_ends_its_grants_upstream_b12(grant: Grant, sandbox: SandboxThread) -> None:
    config = grant.provider_config

    remove(config, actor=SYSTEM)
    # Its worker's turn: nobody waits for the provider.
    retry_due()

    assert [call["status"] for call in sandbox.ledger("/generic/revoke")] == [200]
    assert not Grant.objects.exists()
