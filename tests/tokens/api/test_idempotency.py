"""A POST that is sent again is carried out once."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import close_old_connections, connection

from portal.models import AuditEvent, Event
from portal.models.applications import digest
from tests.factories import GrantFactory
from tests.processes import test_database_url
from tests.tokens.api.caller import Caller
from tests.tokens.connecting import RETURN_URL, configured, opened
from tokens.api import idempotency
from tokens.clock import database_now
from tokens.housekeeping import tidy
from tokens.models import Confirmation, ConnectSession, Grant, KeptAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db

ASKED = {"end_user": "user-1", "provider": "atlassian", "return_url": RETURN_URL}


@pytest.fixture
def config(sandbox: SandboxThread) -> ProviderConfig:
    return configured(sandbox)


@pytest.fixture
def caller(config: ProviderConfig) -> Caller:
    return Caller(config.application)


def send(
    caller: Caller, name: str, path: str = "connect/sessions", *, is_checked: bool = True, **fields: Any
) -> Any:
    return caller.call(
        "post",
        path,
        {**ASKED, **fields},
        is_checked=is_checked,
        content_type="application/json",
        headers={"Authorization": f"Bearer {caller.text}", "Idempotency-Key": name},
    )


def the_first_call_fails_meanwhile(
    execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
) -> Any:
    result = execute(sql, params, many, context)
    if sql.startswith('INSERT INTO "tokens_keptanswer"'):
        KeptAnswer.objects.all().delete()
    return result


def test_the_same_call_gets_the_same_answer_and_is_carried_out_once(caller):
    first, again, other = (send(caller, name) for name in ("one", "one", "two"))

    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 201)
    assert (again.content, again["Location"]) == (first.content, first["Location"])
    assert again["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first
    assert other.json()["id"] != first.json()["id"]
    assert ConnectSession.objects.count() == 2


def test_another_call_with_the_same_name_is_refused(caller):
    send(caller, "one")

    body = send(caller, "one", end_user="user-2")
    address = send(caller, "one", path="connect/exchange", code="x")

    assert (body.status_code, body.json()["code"]) == (422, "idempotency_mismatch")
    # What does not fit the other address is refused before that.
    assert address.status_code == 400
    assert ConnectSession.objects.count() == 1


def test_a_name_belongs_to_its_api_key_alone(caller, config):
    first = send(caller, "one")

    assert send(Caller(config.application), "one").json()["id"] != first.json()["id"]


def test_an_error_is_not_kept(caller, config):
    config.is_enabled = False
    config.save()
    refused = send(caller, "one")
    config.is_enabled = True
    config.save()

    assert refused.status_code == 409
    assert send(caller, "one").status_code == 201


def test_c1_the_kept_answer_is_sealed_for_it_holds_a_link(caller):
    url = send(caller, "one").json()["url"]

    with connection.cursor() as cursor:
        cursor.execute("SELECT answer FROM tokens_keptanswer")
        (sealed,) = cursor.fetchone()
    assert url.encode() not in bytes(sealed)
    assert url.rstrip("/").rpartition("/")[2].encode() not in bytes(sealed)


@pytest.mark.parametrize("name", ["", "x" * 256, "é"])
def test_a_name_that_is_none_is_refused(caller, name):
    response = send(caller, name)

    assert (response.status_code, response.json()["field"]) == (400, "Idempotency-Key")


def test_a_call_under_way_is_waited_for_and_an_abandoned_one_is_made_again(caller):
    send(caller, "one")
    KeptAnswer.objects.update(answer=None)

    under_way = send(caller, "one")
    KeptAnswer.objects.update(held_until=database_now() - timedelta(seconds=1))
    taken_over = send(caller, "one")

    assert (under_way.status_code, under_way.json()["code"]) == (409, "idempotency_in_progress")
    assert under_way["Retry-After"] == "2"
    assert taken_over.status_code == 201


def test_a_first_call_that_fails_while_the_second_looks_lets_it_be_sent_again(caller):
    send(caller, "one")
    KeptAnswer.objects.update(answer=None)

    with connection.execute_wrapper(the_first_call_fails_meanwhile):
        meanwhile = send(caller, "one")

    assert (meanwhile.status_code, meanwhile.json()["code"]) == (409, "idempotency_in_progress")
    assert send(caller, "one").status_code == 201


# --- Nothing is done twice, whatever breaks -------------------------------------------------------------------------


def refuse(table: str, when: str) -> None:
    """Let the database refuse to write to a table."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'the disk is full'; END $$;
            CREATE TRIGGER refuse BEFORE {when} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse();
            """
        )


def allow(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER refuse ON {table}")


def carried_out() -> tuple[int, int]:
    """Return how many sessions there are, and how many the audit log tells of."""
    told = AuditEvent.objects.filter(event=Event.CONNECT_LINK_CREATED)
    return ConnectSession.objects.count(), told.count()


def test_a_call_whose_answer_can_not_be_kept_is_not_carried_out(caller):
    refuse("tokens_keptanswer", "UPDATE")
    broken = send(caller, "one", is_checked=False)
    assert broken.status_code == 500
    assert carried_out() == (0, 0)
    allow("tokens_keptanswer")

    again = send(caller, "one")

    assert (again.status_code, "Idempotency-Replayed" in again) == (201, False)
    assert carried_out() == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_a_database_that_goes_away_while_the_answer_is_kept_leaves_nothing_done(caller):
    def goes_away(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if sql.startswith('UPDATE "tokens_keptanswer"'):
            # By somebody else: our own connection must not know of it.
            psycopg.connect(test_database_url(), autocommit=True).execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s",
                [context["connection"].connection.info.backend_pid],
            ).connection.close()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(goes_away):
        broken = send(caller, "one")

    assert (broken.status_code, broken.json()["code"]) == (503, "database_unavailable")
    assert carried_out() == (0, 0)
    assert send(caller, "one").status_code == 201
    assert carried_out() == (1, 1)


@pytest.mark.django_db(transaction=True)
def test_a_first_call_that_is_only_slow_is_not_made_a_second_time(caller, monkeypatch):
    monkeypatch.setattr(idempotency, "HELD_FOR", timedelta(0))
    is_there, may_go_on, answers = threading.Event(), threading.Event(), []

    def slowly(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if sql.startswith('INSERT INTO "tokens_connectsession"'):
            is_there.set()
            may_go_on.wait(10)
        return execute(sql, params, many, context)

    def call(wrapper: Any) -> None:
        try:
            with connection.execute_wrapper(wrapper):
                answers.append(send(caller, "one").status_code)
        finally:
            connection.close()

    def quickly(execute: Any, *args: Any) -> Any:
        return execute(*args)

    first = threading.Thread(target=call, args=[slowly])
    first.start()
    assert is_there.wait(10)
    second = threading.Thread(target=call, args=[quickly])
    second.start()
    second.join(0.5)
    may_go_on.set()
    first.join()
    second.join()

    assert sorted(answers) == [201, 409]
    assert carried_out() == (1, 1)
    assert send(caller, "one").status_code == 201
    assert carried_out() == (1, 1)


def test_a5_a_wrong_try_has_spent_the_code_with_an_idempotency_key_too(caller, config):
    grant = GrantFactory.create(provider_config=config, pending=True, end_user="user-1")
    session, _ = opened(config, confirmation=Confirmation.CODE)
    session.grant, session.return_code_digest = grant, digest("the-code")
    session.return_code_expires_at = database_now() + timedelta(minutes=5)
    session.save()

    def trade(name: str, end_user: str) -> str:
        answer = caller.call(
            "post",
            "connect/exchange",
            {"code": "the-code", "end_user": end_user},
            content_type="application/json",
            headers={"Authorization": f"Bearer {caller.text}", "Idempotency-Key": name},
        )
        return str(answer.json().get("code", "done"))

    assert [trade("one", "user-2"), trade("two", "user-1")] == ["bad_code", "bad_code"]


def refresh(caller: Caller, grant: Grant, **options: Any) -> Any:
    headers = {"Authorization": f"Bearer {caller.text}", "Idempotency-Key": "one"}
    path = f"grants/{grant.pk}/refresh"
    return caller.call("post", path, {}, content_type="application/json", headers=headers, **options)


@pytest.fixture
def grant(config: ProviderConfig, sandbox: SandboxThread) -> Grant:
    tokens = sandbox.mint(config.client_id, account="sam")[0]
    return GrantFactory.create(
        provider_config=config,
        access_token=tokens["access_token"],
        refresh_token=tokens["refresh_token"],
        account_id=tokens["account_id"],
    )


@pytest.mark.django_db(transaction=True)  # As in production: the claim insists on the outermost transaction.
def test_a_refresh_is_answered_also_where_its_answer_can_not_be_kept_and_is_not_repeated(
    caller, grant, sandbox, caplog
):
    refuse("tokens_keptanswer", "UPDATE")
    first = refresh(caller, grant)
    allow("tokens_keptanswer")
    Grant.objects.update(refreshed_at=database_now() - timedelta(minutes=1))

    under_way = refresh(caller, grant)
    KeptAnswer.objects.update(held_until=database_now() - timedelta(seconds=1))
    later = refresh(caller, grant)

    assert first.status_code == 200
    assert "An answer could not be kept" in caplog.text
    assert under_way.json()["code"] == "idempotency_in_progress"
    assert (later.status_code, later.json()["code"]) == (409, "idempotency_unclear")
    assert len(sandbox.ledger("/oauth/token")) == 1


@pytest.mark.django_db(transaction=True)
def test_a_refresh_that_broke_off_is_not_made_again_unasked(caller, grant, sandbox):
    refuse("portal_auditevent", "INSERT")
    broken = refresh(caller, grant, is_checked=False)
    allow("portal_auditevent")

    again = refresh(caller, grant)

    assert broken.status_code == 500
    assert (again.status_code, again.json()["code"]) == (409, "idempotency_unclear")
    assert sandbox.ledger("/oauth/token") == []


def test_a_refresh_that_the_provider_refused_may_be_tried_again(caller, config):
    ended = GrantFactory(provider_config=config, needs_reconnect=True)

    answers = [refresh(caller, ended).json()["code"] for _ in range(2)]

    assert answers == ["needs_reconnect"] * 2


def test_kept_answers_go_after_a_day(caller):
    send(caller, "one")
    send(caller, "two")
    KeptAnswer.objects.filter(name="one").update(created_at=database_now() - timedelta(hours=25))

    tidy()

    assert KeptAnswer.objects.get().name == "two"


@pytest.mark.django_db(transaction=True)
def test_of_many_callers_at_once_one_carries_it_out(caller):
    answers: list[Any] = []

    def call() -> None:
        try:
            answers.append(send(caller, "one"))
        finally:
            close_old_connections()
            connection.close()

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ConnectSession.objects.count() == 1
    made = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert len(made) == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
