"""What applications are told of, written with the change itself: the right things, to the right endpoints, no secret."""

from __future__ import annotations

import json

import pytest
from django.db import transaction

from portal.audit import SYSTEM, record
from portal.encryption import seal
from portal.models import Event, WebhookMessage, WebhookType
from portal.models.webhooks import DisabledReason
from portal.outbox import TYPES
from providers import configure
from tests.factories import ApplicationFactory, GrantFactory, ProviderConfigFactory
from tokens.confirm import confirm, reject
from tokens.models import Grant
from tokens.revoke import revoke, revoke_all_of_provider
from tokens.webhooks import endpoints

pytestmark = pytest.mark.django_db


def told() -> list[dict]:
    return [json.loads(body) for body in WebhookMessage.objects.order_by("id").values_list("body", flat=True)]


def types() -> list[str]:
    return [payload["type"] for payload in told()]


def test_a_connection_is_told_of_when_it_is_active_and_not_before(new_endpoint):
    grant = GrantFactory(pending=True, end_user="user-4711")
    new_endpoint(grant.application)

    record(Event.GRANT_CONNECTED, actor=SYSTEM, application=grant.application, subject=grant)
    assert types() == []
    confirm(grant, actor=SYSTEM)

    (payload,) = told()
    assert payload["type"] == "grant.connected"
    assert payload["timestamp"].endswith("Z")
    assert payload["data"] == {
        "grant_id": str(grant.pk),
        "end_user": "user-4711",
        "provider": "atlassian",
        "label": "",
        "status": "active",
        "cause": "",
    }


def test_of_a_connection_that_was_never_active_nothing_is_told_a5(new_endpoint):
    rejected, forgotten = GrantFactory(pending=True), GrantFactory(pending=True)
    for grant in (rejected, forgotten):
        new_endpoint(grant.application)

    reject(rejected, actor=SYSTEM)
    revoke(forgotten, actor=SYSTEM, reason="nobody confirmed it")

    assert types() == []


def test_a_revocation_is_told_once_with_its_reason(new_endpoint):
    grant = GrantFactory()
    new_endpoint(grant.application)

    revoke(grant, actor=SYSTEM, reason="the contract has ended")
    revoke(grant, actor=SYSTEM)

    (payload,) = told()
    assert payload["type"] == "grant.revoked"
    assert payload["data"]["status"] == "revoked"
    assert payload["data"]["cause"] == "the contract has ended"


def test_each_connection_of_a_deleted_provider_is_told_of(new_endpoint):
    config = ProviderConfigFactory()
    new_endpoint(config.application)
    active, ended = (
        GrantFactory(provider_config=config),
        GrantFactory(provider_config=config, needs_reconnect=True),
    )
    GrantFactory(provider_config=config, pending=True)
    GrantFactory(provider_config=config, revoked=True)

    revoke_all_of_provider(config, SYSTEM)

    assert not Grant.objects.filter(provider_config=config).exists()
    assert set(types()) == {"grant.revoked"}
    assert {payload["data"]["grant_id"] for payload in told()} == {str(active.pk), str(ended.pk)}
    assert {payload["data"]["status"] for payload in told()} == {"revoked"}


def test_a_provider_is_told_of_when_it_fails_and_when_it_recovers(new_endpoint):
    config = ProviderConfigFactory()
    new_endpoint(config.application)

    config.note_problem("client_refused")
    config.note_problem("unreachable")
    config.note_recovery()
    config.note_recovery()

    assert [(payload["type"], payload["data"]) for payload in told()] == [
        ("provider.failing", {"provider": "atlassian", "problem": "client_refused"}),
        ("provider.recovered", {"provider": "atlassian"}),
    ]


def test_new_credentials_end_a_problem_for_those_who_were_told_of_it(new_endpoint, cast):
    config = ProviderConfigFactory(application=cast.application)
    new_endpoint(cast.application)
    config.note_problem("client_refused")

    configure.change(
        config,
        client_id=config.client_id,
        client_secret="new",
        scopes=config.scopes,
        user=cast.owner,
        actor=SYSTEM,
    )

    assert types() == ["provider.failing", "provider.recovered"]


def test_only_the_application_s_own_endpoints_that_want_it_are_told_d1(new_endpoint):
    grant = GrantFactory()
    wants, _ = new_endpoint(grant.application, types=["grant.revoked"])
    new_endpoint(grant.application, types=["grant.connected"])
    off, _ = new_endpoint(grant.application)
    endpoints.disable(off, reason=DisabledReason.MEMBER, actor=SYSTEM)
    new_endpoint(ApplicationFactory())

    revoke(grant, actor=SYSTEM)

    assert [message.endpoint for message in WebhookMessage.objects.all()] == [wants]


def test_a_change_that_is_rolled_back_is_told_to_nobody(new_endpoint):
    grant = GrantFactory()
    new_endpoint(grant.application)

    with transaction.atomic():
        record(Event.GRANT_REVOKED, actor=SYSTEM, application=grant.application, subject=grant)
        assert types() == ["grant.revoked"]
        transaction.set_rollback(True)

    assert types() == []


def test_f4_a_payload_holds_no_secret_however_a_person_is_called(new_endpoint):
    grant = GrantFactory(end_user='ü"\u2028\\', label="x" * 200, cause="access was removed")
    new_endpoint(grant.application)
    seal(grant.tokens, "access_token", "CANARY-7f3a")

    record(Event.GRANT_NEEDS_RECONNECT, actor=SYSTEM, application=grant.application, subject=grant)

    body = WebhookMessage.objects.get().body
    assert body.isascii()
    assert json.loads(body)["data"]["end_user"] == 'ü"\u2028\\'
    assert json.loads(body)["data"]["cause"] == "access was removed"
    assert "CANARY" not in body


def test_every_type_can_happen():
    assert set(TYPES.values()) == set(WebhookType)


def test_a_hand_out_asks_the_database_nothing_for_webhooks(new_endpoint, django_assert_num_queries):
    grant = GrantFactory()
    new_endpoint(grant.application)

    with django_assert_num_queries(1):
        record(Event.TOKEN_HANDED_OUT, actor=SYSTEM, application=grant.application, subject=grant)
