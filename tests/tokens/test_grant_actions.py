"""What members do to one connection, each also twice and late."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from portal.models import Application, AuditEvent, Event
from providers.models import ProviderConfig
from tests.factories import CLIENT_SECRET, GrantFactory, ProviderConfigFactory
from tokens.claim import claim_one
from tokens.models import Grant, GrantStatus, GrantTokens, RefreshAttempt, Trigger
from tokens.results import FENCED, OVERTAKEN, REVOKED, Committed
from tokens.views.grant_actions import in_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from providers.sandbox.thread import SandboxThread
    from tests.conftest import Cast

    Connect = Callable[..., Grant]

pytestmark = pytest.mark.django_db


@pytest.fixture
def config(cast: Cast, sandbox: SandboxThread) -> ProviderConfig:
    """Put the configuration that the sandbox knows into the cast's application."""
    config = ProviderConfigFactory.create(application=cast.application)
    sandbox.register_client(config.client_id, CLIENT_SECRET)
    return config


@pytest.fixture
def owner(cast: Cast) -> Client:
    return cast.client("owner")


def post(client: Client, grant: Grant, action: str) -> str:
    """Press a button, follow to the page, and return its text."""
    response = client.post(f"{grant.get_absolute_url()}{action}/", follow=True)
    assert response.status_code == 200
    assert response.redirect_chain[-1][0] == grant.get_absolute_url()
    return response.content.decode()


def status_of(grant: Grant) -> str:
    return Grant.objects.get(pk=grant.pk).status


def test_refreshing_says_that_it_worked_and_is_audited(cast, owner, connect):
    grant = connect()

    text = post(owner, grant, "refresh")

    assert "Refreshed. The new access token is in place." in text
    assert RefreshAttempt.objects.get(grant=grant).trigger == Trigger.MEMBER
    event = AuditEvent.objects.get(event=Event.GRANT_REFRESH_REQUESTED)
    assert (event.actor_name, event.subject_id) == ("owner@acme.example", str(grant.pk))


def test_support_may_refresh(cast, connect):
    assert "Refreshed." in post(cast.client("support"), connect(), "refresh")


def test_refreshing_with_a_wrong_client_secret_says_who_must_act(cast, owner, config, connect):
    grant = connect()
    config.set_client_secret("not the secret")
    config.save()

    text = post(owner, grant, "refresh")

    assert "Not refreshed:" in text
    assert "An admin must replace the client secret" in text


def test_refreshing_while_a_refresh_is_under_way_is_a_sentence(cast, owner, connect):
    grant = connect()
    claim_one(grant, trigger=Trigger.BEAT, is_forced=True)

    assert "A refresh is under way. Try again in a few seconds." in post(owner, grant, "refresh")


def test_refreshing_from_a_stale_tab_is_a_sentence(cast, owner, config):
    revoked = GrantFactory.create(provider_config=config, revoked=True)
    pending = GrantFactory.create(provider_config=config, pending=True)

    assert "This connection is revoked." in post(owner, revoked, "refresh")
    assert "This connection is waiting for confirmation." in post(owner, pending, "refresh")


def test_refreshing_with_a_disabled_provider_or_an_archived_application_is_a_sentence(cast, owner, connect):
    grant = connect()
    ProviderConfig.objects.update(is_enabled=False)

    assert "This provider is switched off for the application." in post(owner, grant, "refresh")


def test_refreshing_what_has_no_catalog_file_is_a_sentence(cast, owner):
    config = ProviderConfigFactory.create(application=cast.application, provider_id="gone-provider")
    grant = GrantFactory.create(provider_config=config)

    assert "no longer in the catalog" in post(owner, grant, "refresh")


def test_c8_refreshing_what_cannot_be_decrypted_is_a_sentence(cast, owner, config):
    grant = GrantFactory.create(provider_config=config)
    GrantTokens.objects.filter(grant=grant).update(refresh_token=b"\x01\x02k1garbage")

    text = post(owner, grant, "refresh")

    assert "Not refreshed: its tokens cannot be decrypted." in text
    assert "Unreadable" in text


def test_a_refresh_that_a_revocation_overtook_does_not_claim_that_a_token_is_in_place():
    assert "revoked meanwhile" in in_words(Committed(FENCED, REVOKED))
    assert "Another refresh was faster." in in_words(Committed(FENCED, OVERTAKEN))


def test_confirming_makes_a_waiting_connection_active(cast, owner, config):
    grant = GrantFactory.create(provider_config=config, pending=True, end_user="user-4711")

    text = post(owner, grant, "confirm")

    assert "Acme Tasks can use the connection of user-4711 now." in text
    assert status_of(grant) == GrantStatus.ACTIVE


def test_rejecting_erases_the_tokens(cast, owner, config):
    grant = GrantFactory.create(provider_config=config, pending=True)

    text = post(owner, grant, "reject")

    assert "Rejected. Its tokens are erased" in text
    assert status_of(grant) == GrantStatus.REVOKED
    assert not GrantTokens.objects.filter(grant=grant).exists()


@pytest.mark.parametrize("action", ["confirm", "reject"])
def test_confirming_and_rejecting_twice_is_a_sentence(cast, owner, config, action):
    grant = GrantFactory.create(provider_config=config, pending=True)
    post(owner, grant, action)
    before = status_of(grant)

    for again in ("confirm", "reject"):
        assert "This connection is not waiting for a confirmation any more." in post(owner, grant, again)

    assert status_of(grant) == before


def test_revoking_asks_first_and_says_where_the_person_removes_the_app(cast, owner, config):
    grant = GrantFactory.create(provider_config=config)

    text = owner.get(f"{grant.get_absolute_url()}revoke/").content.decode()

    assert (
        "Atlassian offers no way for us to end access on its side. Whoever holds the account can remove"
        in text
    )
    assert "your Atlassian account" not in text
    assert "manage-profile/apps" in text
    assert status_of(grant) == GrantStatus.ACTIVE


def test_revoking_erases_the_tokens_at_once_and_is_audited(cast, owner, config):
    grant = GrantFactory.create(provider_config=config)

    text = post(owner, grant, "revoke")

    assert "Revoked. Our tokens are erased" in text
    assert not GrantTokens.objects.filter(grant=grant).exists()
    assert AuditEvent.objects.get(event=Event.GRANT_REVOKED).actor_name == "owner@acme.example"


def test_revoking_twice_is_a_sentence(cast, owner, config):
    grant = GrantFactory.create(provider_config=config)
    post(owner, grant, "revoke")

    assert "This connection was revoked before" in post(owner, grant, "revoke")
    assert (
        "This connection was revoked before"
        in owner.get(f"{grant.get_absolute_url()}revoke/", follow=True).content.decode()
    )
    assert AuditEvent.objects.filter(event=Event.GRANT_REVOKED).count() == 1


def test_revoking_works_without_a_catalog_file(cast, owner):
    config = ProviderConfigFactory.create(application=cast.application, provider_id="gone-provider")
    grant = GrantFactory.create(provider_config=config)

    assert "no longer in the catalog" in owner.get(f"{grant.get_absolute_url()}revoke/").content.decode()
    assert "Revoked." in post(owner, grant, "revoke")


@pytest.mark.parametrize(
    ("who", "action", "status"),
    [
        ("auditor", "refresh", 403),
        ("auditor", "reconnect", 403),
        ("support", "confirm", 403),
        ("support", "reject", 403),
        ("support", "revoke", 403),
        ("stranger", "refresh", 404),
        ("stranger", "revoke", 404),
    ],
)
def test_whose_role_is_too_small_changes_nothing(cast, config, who, action, status):
    grant = GrantFactory.create(provider_config=config, pending=action in ("confirm", "reject"))
    before = status_of(grant)

    response = cast.client(who).post(f"{grant.get_absolute_url()}{action}/")

    assert response.status_code == status
    assert status_of(grant) == before


@pytest.mark.parametrize("action", ["refresh", "reconnect", "confirm", "reject"])
def test_a_bare_get_does_nothing(cast, owner, config, action):
    grant = GrantFactory.create(provider_config=config)

    assert owner.get(f"{grant.get_absolute_url()}{action}/").status_code == 405


def test_a_grant_of_another_application_is_out_of_reach(cast, owner, config):
    theirs = GrantFactory.create(provider_config__application=cast.strangers_application)
    url = f"/applications/{cast.application.slug}/connections/{theirs.pk}"

    answers = {
        owner.post(f"{url}/{action}/").status_code
        for action in ("refresh", "reconnect", "confirm", "reject", "revoke")
    }

    assert answers == {404}
    assert status_of(theirs) == GrantStatus.ACTIVE


def test_an_archived_application_is_left_alone(cast, owner, connect):
    grant = connect()
    Application.objects.filter(pk=cast.application.pk).update(archived_at=grant.connected_at + timedelta(0))

    assert "switched off" in post(owner, grant, "refresh")
