"""Statements C9, D1 to D7 and D9 to D12: the API's keys, its borders, and what leaves through it."""

from __future__ import annotations

import hmac
import json
import re
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import get_resolver

from portal import api_keys
from portal.audit import SYSTEM
from portal.models import ApiKey, AuditEvent, Event
from portal.models.api_keys import KeyPermission
from portal.models.applications import digest
from portal.models.audit import ActorKind
from tests.factories import CANARY, CLIENT_SECRET, GrantFactory, ProviderConfigFactory, database_now
from tests.security.test_roles import _walk
from tests.tokens.api.caller import Caller
from tests.tokens.connecting import RETURN_ORIGIN, RETURN_URL, path_of
from tokens import clock
from tokens.api.openapi import document, operations
from tokens.connect import open_session
from tokens.hand_out import usable_until
from tokens.models import Confirmation, ConnectSession, Grant

if TYPE_CHECKING:
    from providers.models import ProviderConfig

pytestmark = pytest.mark.django_db

ASKED = {"end_user": "user-1", "provider": "atlassian", "return_url": RETURN_URL}


@pytest.fixture
def config(cast, sandbox) -> ProviderConfig:
    cast.application.return_origins = [RETURN_ORIGIN]
    cast.application.save()
    config = ProviderConfigFactory(application=cast.application)
    sandbox.register_client(config.client_id, CLIENT_SECRET, redirect_uris=[config.redirect_uri])
    return config


@pytest.fixture
def grant(config) -> Grant:
    return GrantFactory(provider_config=config, end_user="user-1")


@pytest.fixture
def session(config, grant) -> ConnectSession:
    return open_session(
        config,
        end_user="user-1",
        confirmation=Confirmation.CODE,
        actor=SYSTEM,
        return_url=RETURN_URL,
        reconnect_grant=grant,
    )[0]


def token_of(caller: Caller, grant: Grant) -> Any:
    return caller.get(f"grants/{grant.pk}/token")


# --- C9: keys -------------------------------------------------------------------------------------------------------


def test_c9_a_key_has_256_random_bits_and_is_stored_as_their_digest(cast):
    caller = Caller(cast.application)
    _, public_id, rest = caller.text.split("_")
    secret = rest[: api_keys.SECRET_LENGTH]

    assert len(api_keys.ALPHABET) ** len(secret) >= 2**256
    assert ApiKey.objects.get().secret_digest == digest(secret)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT k::text FROM portal_apikey k UNION ALL SELECT a::text FROM portal_auditevent a"
        )
        stored = str(cursor.fetchall())
    assert public_id in stored
    assert secret not in stored


def test_c9_the_digest_is_compared_in_constant_time_also_for_an_unknown_id(cast, monkeypatch):
    compared = []
    real = hmac.compare_digest

    def counting(one: str, other: str) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(api_keys.hmac, "compare_digest", counting)
    caller = Caller(cast.application)
    body = f"dpk_{'0' * 12}_{'0' * 43}"

    assert api_keys.recognise(caller.text, ip_address=None) == caller.key
    assert api_keys.recognise(body + api_keys.checksum(body), ip_address=None) is None

    assert [len(a) == len(b) == 64 for a, b in compared] == [True, True]


def test_c9_a_typo_is_caught_before_the_database_is_asked(cast, django_assert_num_queries):
    text = Caller(cast.application).text
    swapped = text[:20] + ("x" if text[20] != "x" else "y") + text[21:]

    with django_assert_num_queries(0):
        for wrong in (
            swapped,
            text[:-1],
            text + "0",
            text.lower() + "é",
            "",
            "dpk_",
            text.replace("dpk", "xyz"),
        ):
            assert api_keys.recognise(wrong, ip_address=None) is None


def test_c9_nothing_tells_why_a_key_is_refused(cast, grant):
    revoked, expired, wrong = (Caller(cast.application) for _ in range(3))
    api_keys.revoke(revoked.key, actor=SYSTEM)
    ApiKey.objects.filter(pk=expired.key.pk).update(expires_at=database_now())
    body = wrong.text[:17] + "0" * 43
    wrong.text = body + api_keys.checksum(body)
    unknown = Caller(cast.application)
    unknown.text = "dpk_mistyped"

    answers = [token_of(caller, grant) for caller in (revoked, expired, wrong, unknown)]

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0]["WWW-Authenticate"].startswith("Bearer")


# --- D1, D2: whose it is, and what a key may do ---------------------------------------------------------------------

# Every operation of the OpenAPI document, as (method, path).
OPERATIONS = [(method, path) for path, methods in document()["paths"].items() for method in methods]
# What is sent where an operation needs something, by the field's name.
SAMPLES: dict[str, Any] = {
    **ASKED,
    "code": "made-up",
    "rows": [
        {
            "end_user": "user-9",
            "provider": "atlassian",
            "account_id": "712020:nine",
            "refresh_token": f"{CANARY}-imported",
        }
    ],
}
# What is called through the proxy.
CALLED = {"site": "acme", "product": "jira", "path": "rest/api/3/myself"}
# Fields that name an object.
POINTERS = {"reconnect"}


def described(operation: tuple[str, str]) -> dict[str, Any]:
    method, path = operation
    return document()["paths"][path][method]


def fields_of(operation: tuple[str, str]) -> tuple[set[str], set[str]]:
    """Return the names of the fields that an operation needs, and of all that it takes."""
    told = described(operation)
    if "requestBody" in told:
        schema = told["requestBody"]["content"]["application/json"]["schema"]
        return set(schema.get("required", [])), set(schema["properties"])
    query = [parameter for parameter in told.get("parameters", []) if parameter["in"] == "query"]
    return {one["name"] for one in query if one["required"]}, {one["name"] for one in query}


def names_an_object(operation: tuple[str, str]) -> bool:
    return "{" in operation[1] or bool(fields_of(operation)[1] & POINTERS)


def carry_out(caller: Caller, operation: tuple[str, str], *, grant: object, session: object) -> Any:
    """Carry an operation out with all that it needs, and about these objects where it is about one."""
    method, path = operation
    needed, taken = fields_of(operation)
    fields = {name: SAMPLES[name] for name in needed} | {name: str(grant) for name in taken & POINTERS}
    path = path.format(id=session if path.startswith("/connect/") else grant, **CALLED)[1:]
    return caller.delete(path) if method == "delete" else getattr(caller, method)(path, **fields)


def text_of(response: Any) -> str:
    return (b"".join(response) if response.streaming else response.content).decode()


def test_d1_every_address_is_in_the_document_that_the_matrix_is_made_from():
    known = {name for route, name in _walk(get_resolver().url_patterns) if route.startswith("api/v1/")}

    assert known - {name for _, name, _, _ in operations()} == {
        "api-openapi",
        "api-problem",
        "api-nothing",
    }


@pytest.fixture
def stranger(cast) -> Caller:
    # Their provider is there too, so that only the objects are strange.
    cast.strangers_application.return_origins = [RETURN_ORIGIN]
    cast.strangers_application.save()
    ProviderConfigFactory(application=cast.strangers_application)
    return Caller(cast.strangers_application)


def everything_of(cast) -> list[Any]:
    return [
        list(model.objects.order_by("pk").values())
        for model in (Grant.objects.model, ConnectSession.objects.model)
    ] + [list(AuditEvent.objects.filter(application_id=cast.application.pk).values())]


@pytest.mark.parametrize("operation", filter(names_an_object, OPERATIONS), ids=" ".join)
def test_d1_somebody_else_s_is_the_same_as_unknown(operation, cast, stranger, grant, session):
    before = everything_of(cast)

    theirs = carry_out(stranger, operation, grant=grant.pk, session=session.pk)
    unknown = carry_out(stranger, operation, grant=uuid.uuid4(), session=uuid.uuid4())
    senseless = carry_out(stranger, operation, grant="nothing", session="nothing")

    assert theirs.status_code == 404
    assert theirs.content == unknown.content == senseless.content
    assert everything_of(cast) == before


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if not names_an_object(one)], ids=" ".join)
def test_d1_what_names_no_object_shows_nothing_of_somebody_else_s(operation, cast, stranger, grant, session):
    response = carry_out(stranger, operation, grant=grant.pk, session=session.pk)

    for one in (grant.pk, grant.account_id, grant.account_email, session.pk, "back end of acme"):
        assert str(one) not in response.content.decode()


def test_d1_somebody_else_s_code_confirms_nothing_and_stays_good(cast, grant, session):
    ConnectSession.objects.update(
        grant=grant,
        return_code_digest=digest("the-code"),
        return_code_expires_at=database_now() + timedelta(minutes=1),
    )
    sent = {"code": "the-code", "end_user": "user-1"}

    assert Caller(cast.strangers_application).post("connect/exchange", **sent).json()["code"] == "bad_code"
    assert Caller(cast.application).post("connect/exchange", **sent).status_code == 200


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_d2_a_key_does_what_its_permissions_say(operation, cast, grant, session):
    needed = described(operation)["x-permission"]
    others = [permission for permission in KeyPermission.values if permission != needed]

    refused = carry_out(Caller(cast.application, *others), operation, grant=grant.pk, session=session.pk)
    let_in = carry_out(Caller(cast.application, needed), operation, grant=grant.pk, session=session.pk)

    assert (refused.status_code, refused.json()["code"]) == (403, "missing_permission")
    assert refused.json()["missing_permission"] == needed
    # What is made up is refused by what lies behind the door.
    assert let_in.status_code != 403


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_d2_a_key_for_one_provider_sees_nothing_of_another(operation, cast, grant, session):
    caller = Caller(cast.application, provider_ids=["github"])

    response = carry_out(caller, operation, grant=grant.pk, session=session.pk)

    # A provider that it may not be used for is switched on or off: it says nothing of it.
    assert response.status_code in {404, 400} or not names_an_object(operation)
    for one in (grant.pk, grant.account_id, grant.account_email, session.pk):
        assert str(one) not in text_of(response)


def test_d3_a_revoked_key_is_refused_at_the_next_call_and_others_go_on(cast, grant):
    old, new = Caller(cast.application), Caller(cast.application)
    assert token_of(old, grant).status_code == token_of(new, grant).status_code == 200

    api_keys.revoke(old.key, actor=SYSTEM)

    assert token_of(old, grant).status_code == 401
    assert token_of(new, grant).status_code == 200


def test_d3_a_key_used_from_outside_its_ip_ranges_is_told_so_and_gets_nothing(cast, grant):
    caller = Caller(cast.application)
    ApiKey.objects.update(networks=["203.0.113.0/24"])

    refused = caller.call("get", f"grants/{grant.pk}/token", REMOTE_ADDR="198.51.100.1")
    let_in = caller.call("get", f"grants/{grant.pk}/token", REMOTE_ADDR="203.0.113.9")

    assert (refused.status_code, refused.json()["code"]) == (403, "ip_not_allowed")
    assert refused.json()["ip_address"] == "198.51.100.1"
    assert let_in.status_code == 200


# --- D4: where a key belongs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_d4_a_key_in_the_address_or_the_body_is_refused_whatever_the_header_says(
    operation, cast, grant, session
):
    caller = Caller(cast.application)
    path = operation[1][1:].format(id=grant.pk, **CALLED)
    spoilt = [
        caller.call(operation[0], f"{path}?api_key={caller.text}"),
        caller.call(operation[0], f"{path}?{caller.text}"),
        caller.call(operation[0], f"{path}?key={caller.text}", headers={}),
    ]
    if "requestBody" in described(operation):
        body = json.dumps({"note": f"Bearer {caller.text}"})
        spoilt.append(caller.call(operation[0], path, body, content_type="application/json", headers={}))

    for response in spoilt:
        assert (response.status_code, response.json()["code"]) == (400, "misplaced_key")
        assert caller.text not in response.content.decode()


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Api-Key": "{}"}, {"Authorization": "Basic {}"}, {"Authorization": "{}"}, {"Cookie": "key={}"}],
)
def test_d4_a_key_in_another_header_lets_nobody_in(headers, cast, grant):
    caller = Caller(cast.application)

    response = caller.call(
        "get",
        f"grants/{grant.pk}/token",
        headers={name: text.format(caller.text) for name, text in headers.items()},
    )

    assert (response.status_code, response.json()["code"]) == (401, "no_key")


def test_d4_a_login_counts_for_nothing(cast, grant):
    assert cast.client("owner").get(f"/api/v1/grants/{grant.pk}/token").status_code == 401


# --- D5, D6: what leaves --------------------------------------------------------------------------------------------


def test_d5_a_token_answer_holds_what_is_needed_and_never_the_refresh_token(cast, grant):
    response = token_of(Caller(cast.application), grant)

    assert set(response.json()) == {
        *("access_token", "token_type", "expires_at", "use_until", "scopes", "sites", "grant"),
    }
    assert f"{CANARY}-refresh-token" not in response.content.decode()
    assert response["Content-Type"] == "application/json"
    assert response["Cache-Control"] == "no-store"
    assert not response.cookies


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_d5_no_answer_is_stored_sets_a_cookie_or_holds_more_than_an_access_token(
    operation, cast, grant, session
):
    response = carry_out(Caller(cast.application), operation, grant=grant.pk, session=session.pk)

    assert response["Cache-Control"] == "no-store"
    assert not response.cookies
    assert CANARY not in text_of(response).replace(f"{CANARY}-access-token", "")


def test_d5_an_address_that_is_not_there_is_a_problem_document_too():
    response = Client().get("/api/v1/nothing/here")

    assert response.status_code == 404
    assert response["Content-Type"] == "application/problem+json"
    assert Client().get(path_of(response.json()["type"])).json()["code"] == "not_found"


def test_d6_use_until_holds_even_if_the_token_is_refreshed_the_moment_after(cast, grant):
    before = database_now()

    answer = token_of(Caller(cast.application), grant).json()

    companion = grant.provider_config.spec.refresh.companion
    assert answer["expires_at"] == f"{grant.access_expires_at:%Y-%m-%dT%H:%M:%SZ}"
    assert answer["use_until"] <= answer["expires_at"]
    assert f"{before:%Y-%m-%dT%H:%M:%SZ}" < answer["use_until"]
    # Not the time at which the test's transaction began.
    after = clock.database_now()
    assert answer["use_until"] <= f"{after + companion:%Y-%m-%dT%H:%M:%SZ}"


def test_d6_use_until_ends_with_the_token_and_counts_from_a_refresh_under_way(grant):
    now = database_now()
    companion = grant.provider_config.spec.refresh.companion

    grant.access_expires_at = now + timedelta(minutes=1)
    assert usable_until(grant, now) == grant.access_expires_at
    grant.access_expires_at = now + timedelta(hours=1)
    assert usable_until(grant, now) == now + companion
    grant.inflight_since = now - timedelta(seconds=90)
    assert usable_until(grant, now) == now - timedelta(seconds=90) + companion
    grant.access_expires_at = None
    assert usable_until(grant, now) == now - timedelta(seconds=90) + companion


# --- D7: what may be written ----------------------------------------------------------------------------------------


# Every operation that writes from a body.
WRITING = [operation for operation in OPERATIONS if "requestBody" in described(operation)]


@pytest.mark.parametrize("operation", WRITING, ids=" ".join)
def test_d7_no_field_of_a_model_can_be_written_but_those_that_are_offered(
    operation, cast, config, grant, session
):
    caller = Caller(cast.application)
    needed, taken = fields_of(operation)
    fields = {field.name for model in (ConnectSession, Grant) for field in model._meta.get_fields()}
    before = everything_of(cast)
    path = operation[1][1:].format(id=grant.pk, **CALLED)

    for field in sorted((fields | {"application_id", "tenant", "owner", "role"}) - taken):
        sent = {name: SAMPLES[name] for name in needed} | {field: "x"}
        response = getattr(caller, operation[0])(path, **sent)
        assert (response.status_code, response.json()["field"]) == (400, field)

    assert everything_of(cast) == before


def test_d7_a_body_that_says_something_twice_is_refused(cast, grant):
    body = '{"label": "one", "label": "two"}'

    response = Caller(cast.application).call(
        "patch", f"grants/{grant.pk}", body, content_type="application/json"
    )

    assert (response.status_code, response.json()["field"]) == (400, "label")


# --- D9: written down first -----------------------------------------------------------------------------------------


def test_d9_every_hand_out_is_on_record_with_who_which_grant_and_which_request(cast, grant):
    caller = Caller(cast.application)

    response = caller.call(
        "get",
        f"grants/{grant.pk}/token",
        headers={"Authorization": f"Bearer {caller.text}"},
        REMOTE_ADDR="203.0.113.7",
    )

    event = AuditEvent.objects.get(event=Event.TOKEN_HANDED_OUT)
    assert (event.actor_kind, event.actor_id, event.ip_address) == (
        ActorKind.API_KEY,
        str(caller.key.pk),
        "203.0.113.7",
    )
    assert (event.subject_kind, event.subject_id) == ("grant", str(grant.pk))
    assert event.request_id == response["X-Request-Id"]
    assert CANARY not in str(event.__dict__)
    assert Grant.objects.get().used_at is not None


def test_d9_without_the_audit_row_there_is_no_token(cast, grant):
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE FUNCTION refuse_hand_outs() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'the audit log is full'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON portal_auditevent FOR EACH ROW
            WHEN (NEW.event = 'token:handed_out') EXECUTE FUNCTION refuse_hand_outs();
            """
        )

    response = token_of(Caller(cast.application), grant)

    assert (response.status_code, response.json()["code"]) == (503, "audit_unavailable")
    assert response["Retry-After"] == "5"
    assert CANARY not in response.content.decode()
    assert Grant.objects.get().used_at is None


# --- D10, D12: guessing, and methods --------------------------------------------------------------------------------


def test_d10_a_wrong_key_is_logged_with_where_it_came_from_and_nothing_of_it(cast, grant, caplog):
    caller = Caller(cast.application)
    api_keys.revoke(caller.key, actor=SYSTEM)

    caller.call("get", f"grants/{grant.pk}", REMOTE_ADDR="203.0.113.7")

    assert "A call with a bad API key was refused, from 203.0.113.7." in caplog.text
    assert caller.text not in caplog.text
    assert caller.text.split("_")[2] not in caplog.text


def test_d10_a_guessed_code_is_the_same_as_one_of_another_end_user(cast, grant, session):
    ConnectSession.objects.update(
        grant=grant,
        return_code_digest=digest("the-code"),
        return_code_expires_at=database_now() + timedelta(minutes=1),
    )
    caller = Caller(cast.application)

    guessed = caller.post("connect/exchange", code="a guess", end_user="user-1")
    others = caller.post("connect/exchange", code="the-code", end_user="user-2")

    assert (guessed.status_code, guessed.json()["code"]) == (400, "bad_code")
    assert guessed.content == others.content


@pytest.mark.parametrize("path", document()["paths"])
def test_d12_methods_that_an_address_does_not_know_are_405(path, cast, grant):
    caller = Caller(cast.application)
    known = set(document()["paths"][path])
    address = "/api/v1" + re.sub(r"{\w+}", str(grant.pk), path)
    others = {"get", "post", "put", "patch", "delete", "head", "options", "trace"} - known
    if "{path}" in path:
        others.remove("head")  # The provider's.

    for method in others:
        response = Client().generic(
            method.upper(), address, headers={"Authorization": f"Bearer {caller.text}"}
        )
        assert response.status_code == 405, method
        assert response["Allow"] == ", ".join(sorted(one.upper() for one in known))


def test_d11_a_fault_of_ours_is_a_problem_document_that_tells_nothing(cast, grant, caplog):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE tokens_site RENAME COLUMN name TO gone")

    key = Caller(cast.application).text

    response = Client().get("/api/v1/grants", headers={"Authorization": f"Bearer {key}"})

    assert (response.status_code, response.json()["code"]) == (500, "fault")
    assert response["Content-Type"] == "application/problem+json"
    assert "tokens_site" not in response.content.decode()
    assert "tokens_site" in caplog.text
