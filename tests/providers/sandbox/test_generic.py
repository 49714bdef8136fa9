"""The second provider: plain OAuth 2.0, unlike Atlassian wherever providers differ."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.providers.sandbox.client import REDIRECT_URI, Answer, call, query_of, refresh

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread

CREDENTIALS = "generic-app:generic-secret"


def generic_url(sandbox: SandboxThread, **changes: str) -> str:
    query = {
        "client_id": "generic-app",
        "redirect_uri": REDIRECT_URI,
        "response_type": "code",
        "scope": "profile,notes.read",
        "state": "the-state",
        **changes,
    }
    return f"{sandbox.url}/generic/authorize?{urlencode(query)}"


def post(sandbox: SandboxThread, path: str, *, credentials: str = CREDENTIALS, **form: str) -> Answer:
    headers = {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}
    return call(f"{sandbox.url}/generic/{path}", form=form, headers=headers)


def exchange(sandbox: SandboxThread, **changes: str) -> Answer:
    code = query_of(sandbox.approve(generic_url(sandbox)))["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT_URI, **changes}
    return post(sandbox, "token", **form)


def test_a_code_is_worth_tokens_and_the_profile(sandbox: SandboxThread) -> None:
    tokens = exchange(sandbox).json
    profile = call(f"{sandbox.url}/generic/userinfo", bearer=tokens["access_token"]).json

    assert (tokens["expires_in"], tokens["scope"]) == (7200, "profile,notes.read")
    assert tokens["refresh_token"]
    assert profile == {"sub": "jo", "name": "Jo Doe", "email": "jo@acme.example"}


def test_the_refresh_token_never_changes_and_does_not_come_again(sandbox: SandboxThread) -> None:
    tokens = exchange(sandbox).json
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}

    first = post(sandbox, "token", **form).json
    sandbox.move_clock(100_000)
    second = post(sandbox, "token", **form)

    assert "refresh_token" not in first
    assert second.status == 200


def test_an_access_token_lives_two_hours(sandbox: SandboxThread) -> None:
    token = exchange(sandbox).json["access_token"]
    sandbox.move_clock(7201)

    answer = call(f"{sandbox.url}/generic/userinfo", bearer=token)

    assert (answer.status, answer.json) == (401, {"error": "invalid_token"})


@pytest.mark.parametrize("credentials", ["generic-app:wrong", "generic-app:other", ":"])
def test_wrong_credentials_are_an_invalid_client(sandbox: SandboxThread, credentials: str) -> None:
    exchange(sandbox)

    answer = post(sandbox, "token", credentials=credentials, grant_type="refresh_token", refresh_token="x")

    assert (answer.status, answer.json) == (401, {"error": "invalid_client"})


def test_credentials_in_the_body_do_not_count(sandbox: SandboxThread) -> None:
    form = {"grant_type": "refresh_token", "client_id": "generic-app", "client_secret": "generic-secret"}

    answer = call(f"{sandbox.url}/generic/token", form=form)

    assert answer.json == {"error": "invalid_client"}


def test_json_is_refused(sandbox: SandboxThread) -> None:
    answer = call(f"{sandbox.url}/generic/token", order={"grant_type": "refresh_token"})

    assert (answer.status, answer.json) == (400, {"error": "invalid_request"})


def test_a_wrong_code_and_a_wrong_refresh_token_are_an_invalid_grant(sandbox: SandboxThread) -> None:
    code = post(sandbox, "token", grant_type="authorization_code", code="x", redirect_uri=REDIRECT_URI)
    token = post(sandbox, "token", grant_type="refresh_token", refresh_token="x")

    assert (code.status, code.json) == (400, {"error": "invalid_grant"})
    assert (token.status, token.json) == (400, {"error": "invalid_grant"})


def test_a_code_verifier_that_does_not_fit_is_refused(sandbox: SandboxThread) -> None:
    assert exchange(sandbox, code_verifier="unasked").json == {"error": "invalid_grant"}


def test_errors_at_authorize_go_back_to_the_client(sandbox: SandboxThread) -> None:
    answer = call(generic_url(sandbox, scope="space separated"))

    assert answer.headers["Location"].startswith("http://portal.example/callback")
    assert query_of(answer.headers["Location"]) == {
        "kept": "1",
        "error": "invalid_scope",
        "state": "the-state",
    }


def test_a_revoked_token_is_dead(sandbox: SandboxThread) -> None:
    tokens = exchange(sandbox).json

    revoked = post(sandbox, "revoke", token=tokens["refresh_token"])
    unknown = post(sandbox, "revoke", token="nonsense")

    assert (revoked.status, unknown.status) == (200, 200)
    assert call(f"{sandbox.url}/generic/userinfo", bearer=tokens["access_token"]).status == 401


def test_the_two_providers_do_not_take_each_others_tokens(sandbox: SandboxThread) -> None:
    tokens = exchange(sandbox).json

    at_atlassian = refresh(
        sandbox, tokens["refresh_token"], client_id="generic-app", client_secret="generic-secret"
    )

    assert at_atlassian.status == 403
    assert call(f"{sandbox.url}/me", bearer=tokens["access_token"]).status == 401


def test_faults_and_ledger_work_here_too(sandbox: SandboxThread) -> None:
    sandbox.fault("status_before", on="/generic/token", status=500)

    assert exchange(sandbox).status == 500
    assert sandbox.ledger("/generic/token")[-1]["fault"] == "status_before"
