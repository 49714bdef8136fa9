"""Every call that answers `needs_reconnect` brings the link that repairs the grant, and writes nothing down for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from portal.models import AuditEvent
from tests.factories import GrantFactory, ProviderConfigFactory
from tests.tokens.api.caller import Caller
from tests.tokens.connecting import RETURN_URL, configured, path_of
from tokens import errors
from tokens.api.openapi import operations
from tokens.models import ConnectSession, Grant, GrantStatus

if TYPE_CHECKING:
    from providers.http_stream import Stream
    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db

# Every operation that may answer so, as (method, path).
OPERATIONS = [
    (method, path)
    for path, _, method, operation in operations()
    if errors.NeedsReconnectError in operation.errors
]


@pytest.fixture
def config(sandbox: SandboxThread) -> ProviderConfig:
    return configured(sandbox)


@pytest.fixture
def grant(config: ProviderConfig) -> Grant:
    return GrantFactory(provider_config=config, end_user="user-1", needs_reconnect=True, site_names=["acme"])


def ask(caller: Caller, operation: tuple[str, str], grant: Grant) -> Any:
    method, path = operation
    path = path.format(id=grant.pk, site="acme", product="jira", path="rest/api/3/myself")[1:]
    query = {"end_user": grant.end_user, "provider": "atlassian"} if path == "token" else {}
    if method == "DELETE":
        return caller.delete(path)
    return getattr(caller, method.lower())(path, **query)


def test_tokens_refreshes_and_the_proxy_are_among_them():
    assert {path for _, path in OPERATIONS} >= {
        "/token",
        "/grants/{id}/token",
        "/grants/{id}/refresh",
        "/proxy/{id}/{site}/{product}/{path}",
    }


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_every_call_brings_a_link_that_opens_and_the_call_that_makes_one(operation, config, grant):
    sessions, caller = ConnectSession.objects.count(), Caller(config.application)

    response = ask(caller, operation, grant)

    told = response.json()
    assert (response.status_code, told["code"]) == (409, "needs_reconnect")
    assert "Connect Atlassian again" in Client().get(path_of(told["reconnect_url"])).content.decode()
    assert told["reconnect_expires_at"] > f"{grant.connected_at:%Y-%m-%dT%H:%M}"
    assert told["reconnect"]["url"].endswith(f"/api/v1/grants/{grant.pk}/reconnect")
    assert ConnectSession.objects.count() == sessions


def test_asking_again_and_again_makes_no_rows(config, grant):
    caller = Caller(config.application, "tokens:read")
    before = AuditEvent.objects.count()

    links = [caller.get(f"grants/{grant.pk}/token").json()["reconnect_url"] for _ in range(5)]

    assert len(set(links)) == 5
    assert not ConnectSession.objects.exists()
    assert AuditEvent.objects.count() == before


def test_a_refusal_that_comes_with_a_refresh_brings_the_link_too(config, sandbox):
    tokens = sandbox.mint(config.client_id, account="sam")[0]
    grant = GrantFactory(
        provider_config=config,
        access_token=tokens["access_token"],
        refresh_token=tokens["refresh_token"],
        account_id=tokens["account_id"],
        expired=True,
        # Refused once already; this one confirms it.
        fail_outcome="grant_dead",
    )
    sandbox.revoke_grant("sam", config.client_id)

    told = Caller(config.application).get(f"grants/{grant.pk}/token").json()

    assert told["code"] == "needs_reconnect"
    assert Client().get(path_of(told["reconnect_url"])).status_code == 200


def test_a_grant_that_ends_while_the_proxy_is_at_it_brings_the_link_too(config, monkeypatch):
    """The token is refused, somebody else's refresh brings another, and before that is read access ends."""
    grant = GrantFactory(provider_config=config, site_names=["acme"])
    refused = type("Refused", (), {"status": 401, "first": b"", "close": lambda self: None})()

    def open_stream(*_: object) -> Stream:
        Grant.objects.update(status=GrantStatus.NEEDS_RECONNECT)
        return refused

    monkeypatch.setattr("tokens.proxy.open_stream", open_stream)
    monkeypatch.setattr("tokens.proxy.refresh_refused", lambda *_, **__: True)
    caller = Caller(config.application)
    caller.get("grants")  # So that the next call goes at once.

    response = caller.send("GET", f"proxy/{grant.pk}/acme/jira/rest/api/3/myself")

    assert response.json()["code"] == "needs_reconnect"
    assert Client().get(path_of(response.json()["reconnect_url"])).status_code == 200


def test_d1_d2_a_key_gets_links_for_its_own_grants_alone(config, grant):
    other = ProviderConfigFactory(provider_id="atlassian")
    strangers = Caller(other.application)
    elsewhere = Caller(config.application, provider_ids=["github"])

    for caller in (strangers, elsewhere):
        response = caller.get(f"grants/{grant.pk}/token")
        assert (response.status_code, "reconnect_url" in response.json()) == (404, False)


def test_d2_a_key_that_reads_tokens_gets_the_link_and_still_makes_no_session_by_itself(config, grant):
    caller = Caller(config.application, "tokens:read")
    told = caller.get(f"grants/{grant.pk}/token").json()

    made = caller.post(f"grants/{grant.pk}/reconnect", return_url=RETURN_URL)

    assert told["reconnect_url"]
    assert made.json()["code"] == "missing_permission"


def test_no_other_error_brings_it(config):
    pending = GrantFactory(provider_config=config, pending=True)

    assert "reconnect_url" not in Caller(config.application).get(f"grants/{pending.pk}/token").json()
