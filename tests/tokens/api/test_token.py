"""One call to a fresh access token."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from portal.encryption import seal
from portal.models import AuditEvent, Event
from tests.factories import CANARY, GrantFactory, ProviderConfigFactory, database_now
from tests.tokens.api.caller import Caller
from tests.tokens.connecting import configured
from tokens.models import Grant, GrantTokens, Site

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


def minted(config, sandbox, **fields):
    """Make a grant whose tokens the sandbox knows."""
    tokens = sandbox.mint(config.client_id, account="jo")[0]
    return GrantFactory(
        provider_config=config,
        access_token=tokens["access_token"],
        refresh_token=tokens["refresh_token"],
        account_id=tokens["account_id"],
        **fields,
    )


def test_a_fresh_token_is_handed_out_as_it_is(caller, config, sandbox):
    grant = GrantFactory(provider_config=config, end_user="user-1")

    by_id = caller.get(f"grants/{grant.pk}/token")
    by_end_user = caller.get("token", end_user="user-1", provider="atlassian")

    assert by_id.status_code == 200
    assert by_id.json()["access_token"] == by_end_user.json()["access_token"] == f"{CANARY}-access-token"
    assert by_id.json()["token_type"] == "Bearer"
    assert by_id.json()["scopes"] == grant.granted_scopes
    assert by_id.json()["grant"] == str(grant.pk)
    assert sandbox.ledger("/oauth/token") == []


@pytest.mark.django_db(transaction=True)  # As in production: the claim insists on the outermost transaction.
def test_an_expired_token_is_refreshed_first(caller, config, sandbox):
    grant = minted(config, sandbox, expired=True)

    answer = caller.get(f"grants/{grant.pk}/token").json()

    assert len(sandbox.ledger("/oauth/token")) == 1
    assert answer["access_token"].startswith("eyJ")


@pytest.mark.django_db(transaction=True)
def test_a_reader_that_stood_still_in_its_claim_is_told_to_ask_again(caller, config, sandbox, monkeypatch):
    """The database ends the session of a process that was stopped for seconds, and lets the others go on."""
    monkeypatch.setattr("tokens.gate.STALL_MS", 100)
    grant = minted(config, sandbox, expired=True)

    def stopped(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        result = execute(sql, params, many, context)
        if "idle_in_transaction_session_timeout" in sql:
            time.sleep(0.5)
        return result

    with connection.execute_wrapper(stopped):
        response = caller.get(f"grants/{grant.pk}/token")

    assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
    assert response["Retry-After"] == str(response.json()["retry_after"])
    assert caller.get(f"grants/{grant.pk}/token").status_code == 200


def test_whoever_needs_it_longer_gets_a_newer_one(caller, config, sandbox):
    grant = minted(config, sandbox, due=True, refreshed_at=database_now() - timedelta(minutes=55))

    caller.get(f"grants/{grant.pk}/token", min_ttl=120)
    assert sandbox.ledger("/oauth/token") == []
    caller.get(f"grants/{grant.pk}/token", min_ttl=1200)
    assert len(sandbox.ledger("/oauth/token")) == 1


def test_asking_for_longer_than_tokens_live_does_not_refresh_at_every_call(caller, config, sandbox):
    sandbox.set(access_ttl=120)
    grant = minted(config, sandbox, expired=True)

    for _ in range(3):
        assert caller.get(f"grants/{grant.pk}/token", min_ttl=3600).status_code == 200

    assert len(sandbox.ledger("/oauth/token")) <= 2


def test_sites_come_with_ready_base_urls_and_only_the_chosen_ones(caller, config, sandbox):
    grant = GrantFactory(provider_config=config, site_names=["acme", "secret"])
    Site.objects.filter(name="secret").update(is_chosen=False)
    Site.objects.filter(name="acme").update(products=["Jira", "Confluence"])

    (site,) = caller.get(f"grants/{grant.pk}/token").json()["sites"]

    assert site == {
        "cloud_id": "cloud-acme",
        "name": "acme",
        "url": "https://acme.atlassian.net",
        "products": ["Jira", "Confluence"],
        "base_urls": {
            "Jira": f"{sandbox.url}/ex/jira/cloud-acme",
            "Confluence": f"{sandbox.url}/ex/confluence/cloud-acme",
        },
    }


def test_outside_the_sandbox_base_urls_are_atlassian_s(caller, config, settings):
    settings.SANDBOX_URL = ""
    grant = GrantFactory(provider_config=config)

    (site,) = caller.get(f"grants/{grant.pk}/token").json()["sites"]

    assert site["base_urls"] == {"Jira": "https://api.atlassian.com/ex/jira/cloud-acme"}


def test_several_connections_are_listed_and_none_is_chosen(caller, config):
    first, second = (GrantFactory(provider_config=config, end_user="user-1") for _ in range(2))
    GrantFactory(provider_config=config, end_user="user-1", pending=True)

    response = caller.get("token", end_user="user-1", provider="atlassian")

    assert (response.status_code, response.json()["code"]) == (409, "ambiguous")
    assert {candidate["id"] for candidate in response.json()["candidates"]} == {
        str(first.pk),
        str(second.pk),
    }
    assert not AuditEvent.objects.filter(event=Event.TOKEN_HANDED_OUT).exists()


def test_nobody_s_connection_is_404(caller):
    response = caller.get("token", end_user="user-1", provider="atlassian")

    assert (response.status_code, response.json()["code"]) == (404, "not_found")
    assert "Make a connect session" in response.json()["detail"]
    misspelt = caller.get("token", end_user="user-1", provider="jira").json()
    assert misspelt["detail"].startswith("The application has no such provider")


@pytest.mark.parametrize(
    ("trait", "status", "code"),
    [
        ("pending", 409, "not_confirmed"),
        ("revoked", 409, "revoked"),
        ("needs_reconnect", 409, "needs_reconnect"),
    ],
)
def test_what_can_not_be_handed_out_says_why(caller, config, trait, status, code):
    grant = GrantFactory(provider_config=config, **{trait: True})

    response = caller.get(f"grants/{grant.pk}/token")

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response["Content-Type"] == "application/problem+json"


def test_needs_reconnect_brings_the_call_that_repairs_it(caller, config):
    grant = GrantFactory(provider_config=config, end_user="user-1", needs_reconnect=True)

    reconnect = caller.get(f"grants/{grant.pk}/token").json()["reconnect"]

    assert reconnect["url"].endswith(f"/api/v1/grants/{grant.pk}/reconnect")
    reconnect["body"]["return_url"] = "https://app.acme.example/"
    assert caller.post(reconnect["url"].partition("/v1/")[2], **reconnect["body"]).status_code == 201


def test_while_the_provider_is_down_the_caller_is_told_to_wait(caller, config, sandbox):
    grant = minted(config, sandbox, expired=True)
    sandbox.fault("status_before", status=503, times=5)

    response = caller.get(f"grants/{grant.pk}/token")

    assert (response.status_code, response.json()["code"]) == (503, "provider_unavailable")
    assert response["Retry-After"] == str(response.json()["retry_after"])


def test_a_switched_off_provider_hands_nothing_out(caller, config):
    grant = GrantFactory(provider_config=config)
    config.is_enabled = False
    config.save()

    assert caller.get(f"grants/{grant.pk}/token").json()["code"] == "provider_disabled"


def test_a_provider_that_left_the_catalog_is_told_as_such(caller, config):
    gone = ProviderConfigFactory(application=config.application, provider_id="gone")
    grant = GrantFactory(provider_config=gone)

    assert caller.get(f"grants/{grant.pk}/token").json()["code"] == "not_in_catalog"


def test_a_token_that_does_not_open_is_not_handed_out(caller, config):
    grant = GrantFactory(provider_config=config)
    elsewhere = GrantTokens(grant=Grant(pk=uuid.uuid4(), application=config.application))
    seal(elsewhere, "access_token", "moved here")
    GrantTokens.objects.filter(grant=grant).update(access_token=elsewhere.access_token)

    caller.scheme = "bearer"  # The ordinary way.
    response = caller.get(f"grants/{grant.pk}/token")

    assert (response.status_code, response.json()["code"]) == (503, "unreadable_token")
    assert not AuditEvent.objects.filter(event=Event.TOKEN_HANDED_OUT).exists()

    # The hot path has its row before it tries to open the token: the log tells too much then, never too little.
    caller.scheme = "Bearer"
    response = caller.get(f"grants/{grant.pk}/token")

    assert (response.status_code, response.json()["code"]) == (503, "unreadable_token")
    assert AuditEvent.objects.filter(event=Event.TOKEN_HANDED_OUT).count() == 1


@pytest.mark.parametrize("min_ttl", ["-1", "3601", "soon", "", "1e3", "٣"])
def test_a_senseless_min_ttl_is_refused_by_name(caller, config, min_ttl):
    grant = GrantFactory(provider_config=config)

    response = caller.get(f"grants/{grant.pk}/token", min_ttl=min_ttl)

    assert (response.status_code, response.json()["field"]) == (400, "min_ttl")
