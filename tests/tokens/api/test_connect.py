"""Connect sessions over the API: from a key to an active grant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.urls import reverse

from portal.models import AuditEvent, Event
from portal.models.audit import ActorKind
from tests.factories import GrantFactory
from tests.tokens.api.caller import Caller
from tests.tokens.connecting import RETURN_URL, Browser, configured, path_of, query_of
from tokens.models import ConnectSession, Grant, GrantStatus

if TYPE_CHECKING:
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


def connected(caller, sandbox, *, account="sam", **fields):
    """Connect as far as the browser goes, and return the session's id and the one-time code."""
    opened = caller.post("connect/sessions", **{**ASKED, **fields}).json()
    browser = Browser(sandbox, account=account)
    browser.arrive(opened["url"].rstrip("/").rpartition("/")[2])
    back = browser.client.post(reverse("connect-return", args=[opened["id"]]))
    return opened["id"], query_of(back["Location"].partition("#")[0])["code"]


def test_a_session_is_made_with_its_link(caller, settings):
    response = caller.post("connect/sessions", **ASKED, label="Sam's Jira")

    assert response.status_code == 201
    opened = response.json()
    assert opened["url"].startswith(f"{settings.PUBLIC_URL}/connect/")
    assert (opened["status"], opened["end_user"], opened["label"]) == ("open", "user-1", "Sam's Jira")
    assert response["Location"] == f"/api/v1/connect/sessions/{opened['id']}"
    assert "url" not in caller.get(f"connect/sessions/{opened['id']}").json()
    event = AuditEvent.objects.get(event=Event.CONNECT_LINK_CREATED)
    assert (event.actor_kind, event.actor_name) == (ActorKind.API_KEY, "back end")


def test_the_exchanged_code_makes_the_grant_active(caller, sandbox):
    session_id, code = connected(caller, sandbox)
    assert Grant.objects.get().status == GrantStatus.PENDING

    response = caller.post("connect/exchange", code=code, end_user="user-1")

    grant = response.json()
    assert response.status_code == 200
    assert (grant["status"], grant["end_user"], grant["account"]["email"]) == (
        "active",
        "user-1",
        "sam@acme.example",
    )
    session = caller.get(f"connect/sessions/{session_id}").json()
    assert (session["status"], session["grant"]) == ("done", grant["id"])


def test_a_code_is_good_once_and_for_its_own_end_user(caller, sandbox):
    _, code = connected(caller, sandbox)

    wrong = caller.post("connect/exchange", code=code, end_user="user-2")
    late = caller.post("connect/exchange", code=code, end_user="user-1")

    assert (wrong.status_code, wrong.json()["code"]) == (400, "bad_code")
    assert wrong.json() == late.json()
    assert Grant.objects.get().status == GrantStatus.PENDING


def test_a_code_of_another_provider_than_the_key_s_is_not_spent_by_it(caller, config, sandbox):
    _, code = connected(caller, sandbox)
    other = Caller(config.application, "connect", provider_ids=["github"])

    refused = other.post("connect/exchange", code=code, end_user="user-1")

    assert refused.json()["code"] == "bad_code"
    assert caller.post("connect/exchange", code=code, end_user="user-1").status_code == 200


def test_a_reconnect_repairs_the_grant_in_place(caller, sandbox):
    _, code = connected(caller, sandbox)
    first = caller.post("connect/exchange", code=code, end_user="user-1").json()
    Grant.objects.update(status=GrantStatus.NEEDS_RECONNECT, refresh_due_at=None)

    _, code = connected(caller, sandbox, reconnect=first["id"])
    again = caller.post("connect/exchange", code=code, end_user="user-1").json()

    assert (again["id"], again["status"]) == (first["id"], "active")


def test_a_failed_try_is_told_with_its_reason(caller, sandbox):
    opened = caller.post("connect/sessions", **ASKED).json()
    browser = Browser(sandbox)
    browser.go(path_of(opened["url"]).strip("/").rpartition("/")[2], decline=True)

    session = caller.get(f"connect/sessions/{opened['id']}").json()

    assert session["status"] == "open"
    assert session["failure"]["code"] == "cancelled"
    assert "person cancelled" in session["failure"]["detail"]


def test_a_session_whose_time_is_over_says_so(caller):
    opened = caller.post("connect/sessions", **ASKED).json()
    ConnectSession.objects.update(expires_at="2020-01-01T00:00Z")

    assert caller.get(f"connect/sessions/{opened['id']}").json()["status"] == "expired"


@pytest.mark.parametrize(
    ("fields", "status", "code", "word"),
    [
        ({"return_url": "https://evil.example/"}, 400, "bad_return_url", "origins"),
        ({"return_url": None}, 400, "bad_field", "return_url"),
        ({"end_user": " "}, 400, "bad_field", "end_user"),
        ({"end_user": 7}, 400, "bad_field", "end_user"),
        ({"end_user": "a\u0000"}, 400, "bad_field", "end_user"),
        ({"scopes": "read:me"}, 400, "bad_field", "scopes"),
        ({"scopes": ["manage:everything"]}, 400, "bad_session_request", "manage:everything"),
        ({"provider": "github"}, 404, "not_found", "provider"),
        ({"reconnect": "nothing"}, 404, "not_found", ""),
    ],
)
def test_what_is_wrong_with_a_session_is_said(caller, fields, status, code, word):
    response = caller.post("connect/sessions", **{**ASKED, **fields})

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert word in response.json()["detail"]
    assert not ConnectSession.objects.exists()


def test_scopes_can_be_narrowed(caller):
    opened = caller.post("connect/sessions", **ASKED, scopes=["read:jira-work"]).json()

    assert "read:jira-user" not in ConnectSession.objects.get(pk=opened["id"]).scopes


def test_a_switched_off_provider_connects_nobody(caller, config):
    config.is_enabled = False
    config.save()

    response = caller.post("connect/sessions", **ASKED)

    assert (response.status_code, response.json()["code"]) == (409, "provider_disabled")


def test_another_end_user_s_grant_is_not_reconnected(caller, config):
    grant = GrantFactory(provider_config=config, end_user="user-2")

    response = caller.post("connect/sessions", **ASKED, reconnect=str(grant.pk))

    assert (response.status_code, response.json()["code"]) == (400, "bad_session_request")


@pytest.mark.parametrize("body", ["", "[]", "no", '"text"', "[" * 50_000, '{"a": "\xff"}'])
def test_a_body_that_is_no_json_object_is_refused(caller, body):
    response = caller.call("post", "connect/sessions", body, content_type="application/json")

    assert response.status_code in {400, 415}
    assert response.json()["code"] in {"not_json", "bad_field"}


def test_a_form_is_no_json_and_a_long_body_is_too_long(caller):
    form = caller.call("post", "connect/sessions", ASKED)
    long = caller.post("connect/sessions", end_user="x" * 70_000)

    assert (form.status_code, form.json()["code"]) == (415, "not_json")
    assert (long.status_code, long.json()["code"]) == (413, "too_large")
