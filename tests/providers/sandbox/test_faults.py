"""Faults on command: what the caller sees, and whether the token was spent."""

from __future__ import annotations

import http.client
import json
import threading
import time
from typing import TYPE_CHECKING
from urllib.error import URLError

import pytest

from tests.providers.sandbox.client import connect, post_token, refresh

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread

# What urllib raises for a connection that ends or stalls before the answer is whole.
BROKEN = (URLError, ConnectionError, TimeoutError, http.client.HTTPException)


def was_committed(sandbox: SandboxThread) -> bool:
    return bool(sandbox.ledger("/oauth/token")[-1]["committed"])


@pytest.mark.parametrize(
    ("kind", "is_committed"),
    [
        ("timeout_before", False),
        ("timeout_after", True),
        ("drop_before_commit", False),
        ("drop_after_commit", True),
    ],
)
def test_a_lost_answer_may_or_may_not_have_spent_the_token(
    sandbox: SandboxThread, kind: str, is_committed: bool
) -> None:
    token = connect(sandbox)["refresh_token"]
    sandbox.fault(kind)

    with pytest.raises(BROKEN):
        refresh(sandbox, token, timeout=0.3)

    assert was_committed(sandbox) is is_committed
    assert sandbox.ledger("/oauth/token")[-1]["status"] == 0
    assert sandbox.ledger("/oauth/token")[-1]["fault"] == kind
    assert refresh(sandbox, token).status == 200


@pytest.mark.parametrize(("kind", "is_committed"), [("status_before", False), ("status_after", True)])
def test_a_server_error_may_or_may_not_have_spent_the_token(
    sandbox: SandboxThread, kind: str, is_committed: bool
) -> None:
    token = connect(sandbox)["refresh_token"]
    sandbox.fault(kind, status=502, html=True, retry_after=7)

    answer = refresh(sandbox, token)

    assert answer.status == 502
    assert answer.headers["Retry-After"] == "7"
    assert b"<html>" in answer.body
    assert was_committed(sandbox) is is_committed


def test_any_status_and_body_can_be_ordered(sandbox: SandboxThread) -> None:
    sandbox.fault("status_before", status=400, body={"error": "invalid_grant"}, times=-1)

    answers = [refresh(sandbox, "x") for _ in range(3)]

    assert [answer.json for answer in answers] == [{"error": "invalid_grant"}] * 3


@pytest.mark.parametrize("html", [False, True])
def test_throttling_says_when_to_come_back(sandbox: SandboxThread, html: bool) -> None:
    sandbox.fault("throttle", retry_after=12, html=html)

    answer = refresh(sandbox, connect_before_fault(sandbox))

    assert answer.status == 429
    assert answer.headers["Retry-After"] == "12"
    assert answer.headers["Content-Type"].startswith("text/html" if html else "application/json")


def connect_before_fault(sandbox: SandboxThread) -> str:
    minted = sandbox.mint("SandboxClientIdForTheDemo0000000")[0]
    return str(minted["refresh_token"])


def test_html_with_status_200_spends_nothing_unless_told(sandbox: SandboxThread) -> None:
    token = connect_before_fault(sandbox)
    sandbox.fault("html_200")
    sandbox.fault("html_200", commit=True)

    first = refresh(sandbox, token)
    is_first_committed = was_committed(sandbox)
    second = refresh(sandbox, token)

    assert first.status == second.status == 200
    assert b"<html>" in first.body
    assert not is_first_committed
    assert was_committed(sandbox)


def test_a_truncated_answer_breaks_off_and_the_token_is_spent(sandbox: SandboxThread) -> None:
    token = connect_before_fault(sandbox)
    sandbox.fault("truncated")

    with pytest.raises(http.client.IncompleteRead):
        refresh(sandbox, token)

    assert was_committed(sandbox)


def test_a_quietly_truncated_answer_is_no_json(sandbox: SandboxThread) -> None:
    token = connect_before_fault(sandbox)
    sandbox.fault("truncated", quiet=True)

    answer = refresh(sandbox, token)

    assert answer.status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = answer.json


def test_an_oversized_answer_has_ten_million_bytes(sandbox: SandboxThread) -> None:
    token = connect_before_fault(sandbox)
    sandbox.fault("oversized")

    answer = refresh(sandbox, token)

    assert len(answer.body) > 10_000_000


def test_an_empty_answer_is_empty(sandbox: SandboxThread) -> None:
    token = connect_before_fault(sandbox)
    sandbox.fault("empty")

    answer = refresh(sandbox, token)

    assert (answer.status, answer.body) == (200, b"")
    assert was_committed(sandbox)


def test_a_null_token_is_null(sandbox: SandboxThread) -> None:
    token = connect_before_fault(sandbox)
    sandbox.fault("null_token")

    answer = refresh(sandbox, token)

    assert answer.json["access_token"] is None
    assert answer.json["refresh_token"]


def test_a_redirect_points_where_it_was_told(sandbox: SandboxThread) -> None:
    sandbox.fault("redirect", url="http://elsewhere.example/steal")

    answer = refresh(sandbox, "x")

    assert answer.status == 307
    assert answer.headers["Location"] == "http://elsewhere.example/steal"


def test_a_slow_loris_never_gets_to_the_end(sandbox: SandboxThread) -> None:
    token = connect_before_fault(sandbox)
    sandbox.fault("slow_loris")

    begin = time.monotonic()
    with pytest.raises(BROKEN):
        refresh(sandbox, token, timeout=0.4)

    assert time.monotonic() - begin < 3
    assert was_committed(sandbox)


def test_latency_delays_every_answer_until_cleared(sandbox: SandboxThread) -> None:
    sandbox.fault("latency", ms=120, times=-1)

    begin = time.monotonic()
    refresh(sandbox, "x")
    refresh(sandbox, "x")
    slow = time.monotonic() - begin
    sandbox.clear_faults()
    begin = time.monotonic()
    refresh(sandbox, "x")

    assert slow > 0.24
    assert time.monotonic() - begin < 0.12


def test_faults_hit_as_often_as_ordered_and_may_let_some_pass(sandbox: SandboxThread) -> None:
    sandbox.fault("status_before", status=503, times=2, skip=1)

    statuses = [refresh(sandbox, "x").status for _ in range(5)]

    assert statuses == [403, 503, 503, 403, 403]


def test_a_fault_can_be_for_one_path_or_one_kind_of_grant(sandbox: SandboxThread) -> None:
    sandbox.fault("status_before", on="/me*", times=-1)
    sandbox.fault("status_before", grant_type="authorization_code", times=-1)

    code = post_token(sandbox, grant_type="authorization_code", code="x", redirect_uri="x")
    token = refresh(sandbox, "x")

    assert (code.status, token.status) == (503, 403)


def test_a_fault_can_hit_by_chance(sandbox: SandboxThread) -> None:
    sandbox.fault("status_before", rate=0.5, times=-1)

    statuses = {refresh(sandbox, "x").status for _ in range(60)}

    assert statuses == {403, 503}


def test_a_call_is_in_the_ledger_while_it_hangs(sandbox: SandboxThread) -> None:
    sandbox.fault("timeout_before", seconds=0.5)
    hanging = threading.Thread(target=_ignore_trouble, args=(sandbox,))
    hanging.start()

    deadline = time.monotonic() + 5
    while not (calls := sandbox.ledger("/oauth/token")) and time.monotonic() < deadline:
        time.sleep(0.01)
    hanging.join()

    assert calls[0]["status"] == 0


def _ignore_trouble(sandbox: SandboxThread) -> None:
    with pytest.raises(BROKEN):
        refresh(sandbox, "x")


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("nonsense", {}, "The faults are: latency"),
        ("latency", {"nonsense": 1}, "The options are:"),
        ("latency", {"ms": "soon"}, "ms cannot be 'soon'"),
        ("redirect", {}, "needs url"),
        ("status_before", {"status": 42}, "from 200 to 599"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_with_a_sentence(
    sandbox: SandboxThread, kind: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        sandbox.fault(kind, **options)


def test_a_fault_of_one_client_leaves_the_others_alone(sandbox: SandboxThread) -> None:
    token = connect(sandbox)["refresh_token"]
    sandbox.fault("status_before", client_id="another-client")

    mine = refresh(sandbox, token)
    theirs = refresh(sandbox, "any", client_id="another-client")

    assert (mine.status, theirs.status) == (200, 503)
