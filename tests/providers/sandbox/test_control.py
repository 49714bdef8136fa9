"""Steering: switches, clock, ledger, clients, minting, the control token, and the index page."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from providers.sandbox.switches import SwitchError
from providers.sandbox.thread import SandboxThread
from providers.sandbox.tokens import digest
from tests.providers.sandbox.client import CLIENT_ID, authorize_url, call, connect, refresh

if TYPE_CHECKING:
    from typing import Any


def test_the_defaults_are_those_of_the_best_evidence(sandbox: SandboxThread) -> None:
    switches = sandbox.state()["switches"]

    expected = {
        "refresh_error_style": "unauthorized_client",
        "reuse_leeway_seconds": 600,
        "reuse_after_leeway": "kill_chain",
        "absolute_lifetime_days": 0,
        "access_token_dies_after_refresh": 600,
        "code_ttl": 300,
        "access_ttl": 3600,
        "pkce": "ignore",
        "unknown_scope": "error_page",
        "grant_type": "account",
        "omit_refresh_token_on_refresh": False,
        "duplicate_containers": False,
        "expired_token_status": "401",
        "revoke_endpoint": 404,
    }
    assert expected.items() <= switches.items()


@pytest.mark.parametrize(
    ("switch", "words"),
    [
        ({"nonsense": 1}, "There is no switch 'nonsense'"),
        ({"pkce": "maybe"}, "Choose one of: 'ignore', 'verify'"),
        ({"strict": "yes"}, "strict must be true or false"),
        ({"access_ttl": -1}, "at least 0"),
        ({"access_ttl": True}, "at least 0"),
        ({"iss": 3}, "iss must be a text"),
    ],
)
def test_a_wrong_switch_is_refused_with_a_sentence(
    sandbox: SandboxThread, switch: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        sandbox.set(**switch)


def test_a_reset_forgets_everything_and_restores_the_switches(sandbox: SandboxThread) -> None:
    token = connect(sandbox)["refresh_token"]
    sandbox.set(strict=True)
    sandbox.fault("throttle", times=-1)
    sandbox.move_clock(1000)

    sandbox.reset()

    state = sandbox.state()
    assert (state["grants"], state["faults"], state["clock_offset"], state["calls"]) == ([], [], 0, 0)
    assert state["switches"]["strict"] is False
    assert refresh(sandbox, token).status == 403


def test_the_ledger_can_be_read_from_a_number_on_and_emptied(sandbox: SandboxThread) -> None:
    refresh(sandbox, "x")
    refresh(sandbox, "x")

    later = call(f"{sandbox.url}/_sandbox/ledger?since=1").json["calls"]
    sandbox.clear_ledger()

    assert [entry["n"] for entry in later] == [2]
    assert sandbox.ledger() == []


def test_minted_grants_are_of_different_accounts_and_work(sandbox: SandboxThread) -> None:
    minted = sandbox.mint(CLIENT_ID, 3, first=10)

    assert [grant["account"] for grant in minted] == ["user-10", "user-11", "user-12"]
    assert len({grant["account_id"] for grant in minted}) == 3
    assert all(refresh(sandbox, grant["refresh_token"]).status == 200 for grant in minted)
    assert call(f"{sandbox.url}/me", bearer=minted[0]["access_token"]).json["name"] == "User 10"


def test_a_grant_can_be_minted_for_one_of_the_cast(sandbox: SandboxThread) -> None:
    assert sandbox.mint(CLIENT_ID, account="lee", scope="read:me")[0]["refresh_token"] is None
    with pytest.raises(ValueError, match="no account 'max'"):
        sandbox.mint(CLIENT_ID, account="max")


@pytest.mark.parametrize(
    ("path", "order"),
    [
        ("clients", {"client_id": "x"}),
        ("clients", {"client_id": "x", "client_secret": "y", "redirect_uris": 3}),
        ("clock", {"move": "far"}),
        ("mint", {"count": 0, "client_id": "x"}),
        ("mint", {"count": 1, "client_id": "x", "first": "one"}),
        ("revoke", {"account": "jo", "client_id": "x"}),
        ("switches", ["strict"]),
    ],
)
def test_a_control_call_that_makes_no_sense_is_400_with_a_sentence(
    sandbox: SandboxThread, path: str, order: Any
) -> None:
    answer = call(f"{sandbox.url}/_sandbox/{path}", order=order)

    assert answer.status == 400
    assert answer.json["error"].endswith(".")


def test_the_index_shows_addresses_accounts_and_calls(sandbox: SandboxThread) -> None:
    refresh(sandbox, "x")

    for path in ("/", "/_sandbox/"):
        page = call(sandbox.url + path).body.decode()
        assert "this is not Atlassian" in page
        assert "Jo Doe (jo)" in page
        assert "unauthorized_client" in page


def test_control_calls_leave_no_trace_in_the_ledger(sandbox: SandboxThread) -> None:
    sandbox.set(strict=True)
    call(f"{sandbox.url}/_sandbox/")

    assert sandbox.ledger() == []


def test_with_a_control_token_nobody_steers_without_it() -> None:
    with SandboxThread(control_token="the-control-token") as sandbox:
        refused = call(f"{sandbox.url}/_sandbox/state")
        wrong = call(f"{sandbox.url}/_sandbox/reset", order={}, bearer="another")
        sandbox.set(strict=True)

        assert (refused.status, wrong.status) == (401, 401)
        assert sandbox.state()["switches"]["strict"] is True
        assert call(authorize_url(sandbox)).status == 200


def test_the_page_of_another_site_may_not_steer(sandbox: SandboxThread) -> None:
    url = f"{sandbox.url}/_sandbox/reset"

    theirs = call(url, order={}, headers={"Origin": "https://evil.example"})
    ours = call(url, order={}, headers={"Origin": sandbox.url})

    assert (theirs.status, ours.status) == (403, 200)


def test_switches_of_the_start_survive_a_reset() -> None:
    with SandboxThread(access_ttl=120) as sandbox:
        sandbox.reset()

        assert connect(sandbox)["expires_in"] == 120


def test_a_thread_with_a_wrong_switch_does_not_start() -> None:
    with pytest.raises(SwitchError):
        SandboxThread(nonsense=1)


def test_the_thread_ends_with_the_block_even_if_an_answer_hangs() -> None:
    before = threading.active_count()
    with SandboxThread() as sandbox:
        sandbox.fault("timeout_before", on="/me")
        with pytest.raises(OSError, match="timed out"):
            call(f"{sandbox.url}/me", timeout=0.1)

    assert threading.active_count() == before


def test_who_asks_whether_a_refresh_token_is_honoured_spends_nothing(sandbox: SandboxThread) -> None:
    spent = connect(sandbox)["refresh_token"]
    newest = refresh(sandbox, spent).json["refresh_token"]

    in_leeway = sandbox.refusals([digest(spent), digest(newest), "made-up"])
    sandbox.move_clock(601)
    after_it = sandbox.refusals([digest(spent), digest(newest)])

    assert in_leeway == {digest(spent): "", digest(newest): "", "made-up": "unknown refresh token"}
    assert after_it == {digest(spent): "reuse after the leeway", digest(newest): ""}
    assert refresh(sandbox, newest).status == 200


def test_a_grant_that_was_taken_back_honours_no_token(sandbox: SandboxThread) -> None:
    token = connect(sandbox)["refresh_token"]
    sandbox.revoke_grant("jo", CLIENT_ID)

    refusals = sandbox.refusals([digest(token)])

    assert refusals == {digest(token): "the person removed the app"}
