"""Connections brought in from another store, and taken out again."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from portal.encryption import unseal
from portal.models import ApiKey, AuditEvent, Event
from tests.factories import CANARY, GrantFactory, database_now
from tests.tokens.api.caller import Caller
from tests.tokens.connecting import configured
from tokens.engine import drain
from tokens.import_grants import ANOTHER_ACCOUNT, look_at_imported
from tokens.models import Grant, GrantStatus

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


def row(**fields: Any) -> dict[str, Any]:
    return {
        "end_user": "user-1",
        "provider": "atlassian",
        "account_id": "712020:one",
        "refresh_token": f"{CANARY}-imported",
        **fields,
    }


def results(response: Any) -> list[str]:
    assert response.status_code == 200
    return [one["result"] for one in response.json()["rows"]]


@pytest.mark.django_db(transaction=True)
def test_what_is_imported_is_refreshed_looked_at_and_handed_out(caller, config, sandbox):
    tokens = sandbox.mint(config.client_id, account="jo")[0]
    account = tokens["account_id"]
    sent = row(
        refresh_token=tokens["refresh_token"], account_id=account, label="Sales", metadata={"plan": "x"}
    )

    assert results(caller.post("grants/import", rows=[sent])) == ["imported"]
    drain()
    assert look_at_imported() == 1

    grant = caller.get("grants", end_user="user-1").json()["grants"][0]
    assert (grant["status"], grant["label"], grant["metadata"]) == ("active", "Sales", {"plan": "x"})
    assert grant["account"]["email"].startswith("jo@")
    assert grant["sites"]
    token = caller.get("token", end_user="user-1", provider="atlassian")
    assert token.status_code == 200
    # Seen through, it is like any other.
    assert look_at_imported() == 0
    assert caller.get("grants", site=grant["sites"][0]["name"]).json()["grants"]


@pytest.mark.django_db(transaction=True)
def test_a17_a_token_of_another_account_than_was_said_needs_reconnecting(caller, config, sandbox):
    tokens = sandbox.mint(config.client_id, account="jo")[0]

    caller.post("grants/import", rows=[row(refresh_token=tokens["refresh_token"], account_id="712020:sam")])
    drain()
    look_at_imported()

    grant = Grant.objects.get()
    assert (grant.status, grant.cause) == (GrantStatus.NEEDS_RECONNECT, ANOTHER_ACCOUNT)
    assert AuditEvent.objects.filter(event=Event.GRANT_NEEDS_RECONNECT).exists()


def test_each_row_is_judged_by_itself(caller, config):
    there = GrantFactory(provider_config=config, end_user="user-2", account_id="712020:two")

    response = caller.post(
        "grants/import",
        rows=[
            row(),
            row(),
            row(end_user="user-2", account_id="712020:two"),
            row(provider="github"),
            row(refresh_token=" "),
            row(status="active"),
            row(scopes=["manage:everything"]),
            {"end_user": "user-3"},
        ],
    )

    assert results(response) == ["imported", "exists", "exists", *["refused"] * 5]
    body = response.json()
    assert (body["imported"], body["exists"], body["refused"]) == (1, 2, 5)
    assert body["rows"][2]["grant"] == str(there.pk)
    assert [one["field"] for one in body["rows"][3:]] == [
        *("provider", "refresh_token", "status", "scopes"),
        body["rows"][7]["field"],
    ]
    assert AuditEvent.objects.filter(event=Event.GRANT_IMPORTED).count() == 1
    assert CANARY not in response.content.decode()


def test_a_dry_run_stores_nothing(caller, config):
    response = caller.post("grants/import", rows=[row(), row(provider="github")], dry_run=True)

    assert results(response) == ["imported", "refused"]
    assert not Grant.objects.exists()


def test_c1_an_imported_refresh_token_is_sealed_at_once(caller, config):
    caller.post("grants/import", rows=[row()])

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t::text FROM tokens_granttokens t UNION ALL SELECT a::text FROM portal_auditevent a"
        )
        stored = str(cursor.fetchall())
    assert CANARY not in stored
    assert unseal(Grant.objects.get().tokens, "refresh_token") == f"{CANARY}-imported"


@pytest.mark.parametrize("rows", [[], "x", [1], [row()] * 501])
def test_rows_that_are_none_are_refused(caller, rows):
    response = caller.post("grants/import", rows=rows)

    assert (response.status_code, response.json()["field"]) == (400, "rows")


def test_a_body_of_ever_so_many_names_is_refused_at_once(caller):
    names = [*(f'"{number}":0' for number in range(180_000)), '"last":0', '"last":0']
    body = "{" + ",".join(names) + "}"
    headers = {"Authorization": f"Bearer {caller.text}"}
    started = time.process_time()

    response = caller.call("post", "grants/import", body, content_type="application/json", headers=headers)

    assert (response.status_code, response.json()["field"]) == (400, "last")
    assert time.process_time() - started < 10


def test_500_rows_fit_into_one_call(caller, config):
    rows = [row(account_id=f"712020:{number}", refresh_token="x" * 2000) for number in range(500)]

    response = caller.post("grants/import", rows=rows, dry_run=True)

    assert response.json()["imported"] == 500


# --- out ------------------------------------------------------------------------------------------------------------


def test_an_export_brings_refresh_tokens_page_by_page_and_is_on_record(config):
    caller = Caller(config.application, "grants:export")
    made = {str(GrantFactory(provider_config=config).pk) for _ in range(3)}
    GrantFactory(provider_config=config, revoked=True)
    config.is_enabled = False
    config.save()
    grants: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}

    while True:
        page = caller.get("grants/export", limit=2, **cursor).json()
        grants += page["grants"]
        if not page["next_cursor"]:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert {grant["id"] for grant in grants} == made
    assert {grant["refresh_token"] for grant in grants} == {f"{CANARY}-refresh-token"}
    events = AuditEvent.objects.filter(event=Event.GRANT_EXPORTED)
    assert {event.subject_id for event in events} == made
    assert {event.actor_name for event in events} == {"back end"}
    assert CANARY not in str(list(events.values()))


def test_a5_what_nobody_has_confirmed_does_not_leave(config):
    waiting = GrantFactory(provider_config=config, pending=True)
    config.is_enabled = False
    config.save()

    response = Caller(config.application, "grants:export").get("grants/export")

    assert (response.status_code, response.json()["grants"]) == (200, [])
    assert not AuditEvent.objects.filter(event=Event.GRANT_EXPORTED, subject_id=waiting.pk).exists()


def test_a_rotating_token_does_not_leave_while_it_is_refreshed_here(config):
    GrantFactory(provider_config=config)

    response = Caller(config.application, "grants:export").get("grants/export")

    assert (response.status_code, response.json()["code"]) == (409, "export_running")
    assert response.json()["providers"] == ["atlassian"]
    assert not AuditEvent.objects.filter(event=Event.GRANT_EXPORTED).exists()


def test_a_refresh_that_is_under_way_is_waited_for(config):
    GrantFactory(
        provider_config=config,
        claim_owner="00000000-0000-0000-0000-000000000001",
        claim_until=database_now() + timedelta(minutes=1),
    )
    config.is_enabled = False
    config.save()

    (grant,) = Caller(config.application, "grants:export").get("grants/export").json()["grants"]

    assert (grant["refresh_token"], grant["problem"]) == (None, "refresh_in_progress")


def test_d9_without_the_audit_row_nothing_leaves(config):
    GrantFactory(provider_config=config)
    config.is_enabled = False
    config.save()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE FUNCTION refuse_exports() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'the audit log is full'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON portal_auditevent FOR EACH ROW
            WHEN (NEW.event = 'grant:exported') EXECUTE FUNCTION refuse_exports();
            """
        )

    response = Caller(config.application, "grants:export").get("grants/export")

    assert (response.status_code, response.json()["code"]) == (503, "audit_unavailable")
    assert CANARY not in response.content.decode()


def test_a_key_to_export_ends_within_a_day_whatever_is_asked_for(config):
    key = Caller(config.application, "grants:export").key

    assert ApiKey.objects.get(pk=key.pk).expires_at <= database_now() + timedelta(days=1, seconds=60)
