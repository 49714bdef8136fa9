"""The token endpoint, code grant: what it takes and how it says no."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from providers.sandbox.tokens import CANARY, digest
from tests.providers.sandbox.client import (
    CLIENT_ID,
    REDIRECT_URI,
    SCOPES,
    SECRET,
    call,
    connect,
    exchange,
    get_code,
    post_token,
)

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread

BAD_CODE = {"error": "invalid_request", "error_description": "authorization_code is invalid"}
WHO = {"error": "access_denied", "error_description": "Unauthorized"}


def test_a_code_is_worth_a_pair_of_long_marked_tokens(sandbox: SandboxThread) -> None:
    answer = exchange(sandbox, get_code(sandbox))

    tokens = answer.json
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 3600
    assert tokens["scope"].split() == sorted(SCOPES.split())
    for name in ("access_token", "refresh_token"):
        assert 1000 <= len(tokens[name]) <= 3000
        assert tokens[name].count(".") == 2
        assert CANARY in tokens[name]


def test_the_size_of_tokens_can_be_switched(sandbox: SandboxThread) -> None:
    sandbox.set(token_size=4000)

    assert abs(len(connect(sandbox)["access_token"]) - 4000) <= 4


def test_without_offline_access_there_is_no_refresh_token(sandbox: SandboxThread) -> None:
    assert "refresh_token" not in connect(sandbox, scope="read:me")


def test_a_code_works_once(sandbox: SandboxThread) -> None:
    code = get_code(sandbox)
    exchange(sandbox, code)

    again = exchange(sandbox, code)

    assert (again.status, again.json) == (400, BAD_CODE)
    assert sandbox.ledger("/oauth/token")[-1]["reason"] == "code used before"


def test_a_code_expires_after_five_minutes(sandbox: SandboxThread) -> None:
    code = get_code(sandbox)
    sandbox.move_clock(301)

    answer = exchange(sandbox, code)

    assert (answer.status, answer.json) == (400, BAD_CODE)


def test_a_code_is_bound_to_its_redirect_uri_and_client(sandbox: SandboxThread) -> None:
    code = get_code(sandbox)

    elsewhere = exchange(sandbox, code, redirect_uri="http://portal.example/other")
    stranger = exchange(sandbox, code, client_id="another", client_secret="s")

    assert (elsewhere.status, elsewhere.json) == (400, BAD_CODE)
    assert (stranger.status, stranger.json) == (400, BAD_CODE)
    assert exchange(sandbox, code).status == 200


@pytest.mark.parametrize("secret", ["wrong", "", None, "another"])
def test_a_wrong_or_missing_secret_is_access_denied(sandbox: SandboxThread, secret: str | None) -> None:
    code = get_code(sandbox)

    answer = exchange(sandbox, code, client_secret=secret)

    assert (answer.status, answer.json) == (401, WHO)
    assert exchange(sandbox, code).status == 200


def test_an_unknown_client_is_pinned_to_its_first_secret(sandbox: SandboxThread) -> None:
    first = exchange(sandbox, get_code(sandbox, client_id="new"), client_id="new", client_secret="one")

    second = exchange(sandbox, get_code(sandbox, client_id="new"), client_id="new", client_secret="two")

    assert first.status == 200
    assert (second.status, second.json) == (401, WHO)


def test_forms_and_basic_credentials_work_as_well(sandbox: SandboxThread) -> None:
    basic = base64.b64encode(f"{CLIENT_ID}:{SECRET}".encode()).decode()
    form = {
        "grant_type": "authorization_code",
        "code": get_code(sandbox),
        "redirect_uri": REDIRECT_URI,
    }

    answer = call(f"{sandbox.url}/oauth/token", form=form, headers={"Authorization": f"Basic {basic}"})

    assert answer.status == 200


@pytest.mark.parametrize(
    "parameters",
    [
        {"grant_type": "password"},
        {},
        {"grant_type": "authorization_code", "redirect_uri": REDIRECT_URI},
        {"grant_type": "authorization_code", "code": "x"},
        {"grant_type": "refresh_token"},
    ],
)
def test_a_missing_parameter_is_an_invalid_request(
    sandbox: SandboxThread, parameters: dict[str, Any]
) -> None:
    answer = post_token(sandbox, **parameters)

    assert answer.status == 400
    assert answer.json["error"] == "invalid_request"


def test_a_body_that_is_no_form_and_no_json_is_an_invalid_request(sandbox: SandboxThread) -> None:
    answer = call(f"{sandbox.url}/oauth/token", order=["no", "object"])

    assert answer.status == 400
    assert answer.json["error"] == "invalid_request"


def test_resource_is_an_invalid_target(sandbox: SandboxThread) -> None:
    answer = exchange(sandbox, get_code(sandbox), resource="https://api.example")

    assert answer.status == 400
    assert answer.json["error"] == "invalid_target"


def test_pkce_is_ignored_unless_switched_on(sandbox: SandboxThread) -> None:
    verifier = "v" * 43
    hashed = hashlib.sha256(verifier.encode()).digest()
    challenge = base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()
    sent = {"code_challenge": challenge, "code_challenge_method": "S256"}

    ignored = exchange(sandbox, get_code(sandbox, **sent), code_verifier="w" * 43)
    sandbox.set(pkce="verify")
    wrong = exchange(sandbox, get_code(sandbox, **sent), code_verifier="w" * 43)
    right = exchange(sandbox, get_code(sandbox, **sent), code_verifier=verifier)

    assert ignored.status == 200
    assert wrong.status == 400
    assert right.status == 200


def test_a_wrong_path_is_404(sandbox: SandboxThread) -> None:
    assert call(f"{sandbox.url}/token", order={}).status == 404


def test_the_answer_can_lack_scope_and_lifetime_or_lie_about_it(sandbox: SandboxThread) -> None:
    sandbox.set(omit_scope_field=True, no_expires_in=True)
    bare = connect(sandbox)
    sandbox.set(no_expires_in=False, expires_in_value="3600")
    odd = connect(sandbox)

    assert "scope" not in bare
    assert "expires_in" not in bare
    assert odd["expires_in"] == "3600"


def test_the_token_endpoint_can_be_down_with_html(sandbox: SandboxThread) -> None:
    sandbox.set(nonjson_5xx=502)

    answer = post_token(sandbox, grant_type="refresh_token", refresh_token="x")

    assert answer.status == 502
    assert answer.headers["Content-Type"].startswith("text/html")


def test_the_ledger_has_digests_and_no_secret(sandbox: SandboxThread) -> None:
    code = get_code(sandbox)
    tokens = exchange(sandbox, code).json

    call_made = sandbox.ledger("/oauth/token")[-1]

    assert call_made["presented"] == digest(code)
    assert call_made["issued_refresh"] == digest(tokens["refresh_token"])
    assert call_made["issued_access"] == digest(tokens["access_token"])
    assert call_made["committed"] is True
    assert (call_made["status"], call_made["outcome"]) == (200, "ok")
    assert (call_made["account"], call_made["client_id"]) == ("jo", CLIENT_ID)
    everything = f"{sandbox.ledger()}{sandbox.state()}"
    assert CANARY not in everything
    assert SECRET not in everything
