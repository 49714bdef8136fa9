"""A POST that is sent again is carried out once."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import close_old_connections, connection

from tests.tokens.api.caller import Caller
from tests.tokens.connecting import RETURN_URL, configured
from tokens.clock import database_now
from tokens.housekeeping import tidy
from tokens.models import ConnectSession, KeptAnswer

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


def send(caller: Caller, name: str, path: str = "connect/sessions", **fields: Any) -> Any:
    return caller.call(
        "post",
        path,
        {**ASKED, **fields},
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
