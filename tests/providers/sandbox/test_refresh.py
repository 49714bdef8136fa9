"""Refresh: rotation, leeway, reuse, and everything that ends a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from providers.sandbox.tokens import digest
from tests.providers.sandbox.client import CLIENT_ID, call, connect, exchange, get_code, refresh

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread

DAY = 86_400
DEAD = {"error": "unauthorized_client", "error_description": "refresh_token is invalid"}
DEAD_AS_DOCUMENTED = {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."}


def is_good(sandbox: SandboxThread, access_token: str) -> bool:
    return call(f"{sandbox.url}/me", bearer=access_token).status == 200


def test_a_refresh_rotates_both_tokens(sandbox: SandboxThread) -> None:
    old = connect(sandbox)

    new = refresh(sandbox, old["refresh_token"]).json

    assert new["refresh_token"] != old["refresh_token"]
    assert new["access_token"] != old["access_token"]
    assert refresh(sandbox, new["refresh_token"]).status == 200


def test_within_the_leeway_a_spent_token_gives_a_further_valid_pair(sandbox: SandboxThread) -> None:
    old = connect(sandbox)["refresh_token"]
    first = refresh(sandbox, old).json
    sandbox.move_clock(599)

    second = refresh(sandbox, old)

    assert second.status == 200
    assert refresh(sandbox, first["refresh_token"]).status == 200
    assert refresh(sandbox, second.json["refresh_token"]).status == 200


def test_the_leeway_counts_from_the_first_use(sandbox: SandboxThread) -> None:
    old = connect(sandbox)["refresh_token"]
    for _ in range(3):
        assert refresh(sandbox, old).status == 200
        sandbox.move_clock(250)

    assert refresh(sandbox, old).status == 403


def test_reuse_after_the_leeway_kills_the_whole_chain(sandbox: SandboxThread) -> None:
    old = connect(sandbox)["refresh_token"]
    new = refresh(sandbox, old).json
    sandbox.move_clock(601)

    reused = refresh(sandbox, old)

    assert (reused.status, reused.json) == (403, DEAD)
    assert (refresh(sandbox, new["refresh_token"]).json) == DEAD
    assert not is_good(sandbox, new["access_token"])
    assert sandbox.state()["families"][0]["dead"] == "reuse after the leeway"


def test_reuse_after_the_leeway_can_leave_the_chain_alive(sandbox: SandboxThread) -> None:
    sandbox.set(reuse_after_leeway="forbidden")
    old = connect(sandbox)["refresh_token"]
    new = refresh(sandbox, old).json
    sandbox.move_clock(601)

    assert refresh(sandbox, old).status == 403
    assert refresh(sandbox, new["refresh_token"]).status == 200


def test_strict_kills_the_chain_at_the_first_reuse(sandbox: SandboxThread) -> None:
    sandbox.set(strict=True)
    old = connect(sandbox)["refresh_token"]
    new = refresh(sandbox, old).json

    assert refresh(sandbox, old).status == 403
    assert refresh(sandbox, new["refresh_token"]).status == 403


def test_the_old_access_token_dies_ten_minutes_after_a_refresh(sandbox: SandboxThread) -> None:
    old = connect(sandbox)
    new = refresh(sandbox, old["refresh_token"]).json

    sandbox.move_clock(590)
    before = is_good(sandbox, old["access_token"])
    sandbox.move_clock(11)
    after = is_good(sandbox, old["access_token"])

    assert before
    assert not after
    assert is_good(sandbox, new["access_token"])


def test_a_refresh_does_not_lengthen_the_life_of_the_old_access_token(sandbox: SandboxThread) -> None:
    old = connect(sandbox)
    sandbox.move_clock(3595)
    refresh(sandbox, old["refresh_token"])

    sandbox.move_clock(6)

    assert not is_good(sandbox, old["access_token"])


def test_an_unknown_token_and_one_of_another_client_are_refused(sandbox: SandboxThread) -> None:
    token = connect(sandbox)["refresh_token"]

    unknown = refresh(sandbox, "nonsense")
    stranger = refresh(sandbox, token, client_id="another", client_secret="s")

    assert (unknown.status, unknown.json) == (403, DEAD)
    assert (stranger.status, stranger.json) == (403, DEAD)
    assert refresh(sandbox, token).status == 200


def test_a_token_that_idles_for_90_days_is_dead_and_each_rotation_starts_anew(sandbox: SandboxThread) -> None:
    token = connect(sandbox)["refresh_token"]
    sandbox.move_clock(89 * DAY)
    token = refresh(sandbox, token).json["refresh_token"]
    sandbox.move_clock(89 * DAY)
    token = refresh(sandbox, token).json["refresh_token"]
    sandbox.move_clock(91 * DAY)

    assert refresh(sandbox, token).status == 403


def test_an_absolute_lifetime_can_be_switched_on(sandbox: SandboxThread) -> None:
    sandbox.set(absolute_lifetime_days=365)
    token = connect(sandbox)["refresh_token"]
    for _ in range(4):
        sandbox.move_clock(80 * DAY)
        token = refresh(sandbox, token).json["refresh_token"]
    sandbox.move_clock(80 * DAY)

    assert refresh(sandbox, token).status == 403


def test_the_person_removes_the_app_and_every_token_is_dead(sandbox: SandboxThread) -> None:
    first, second = connect(sandbox), connect(sandbox)

    sandbox.revoke_grant("jo", CLIENT_ID)

    assert refresh(sandbox, first["refresh_token"]).json == DEAD
    assert refresh(sandbox, second["refresh_token"]).json == DEAD
    assert not is_good(sandbox, first["access_token"])
    assert refresh(sandbox, connect(sandbox)["refresh_token"]).status == 200


def test_the_documented_error_can_be_switched_on(sandbox: SandboxThread) -> None:
    sandbox.set(refresh_error_style="invalid_grant")

    answer = refresh(sandbox, "nonsense")

    assert (answer.status, answer.json) == (403, DEAD_AS_DOCUMENTED)


def test_the_error_can_depend_on_the_cause(sandbox: SandboxThread) -> None:
    sandbox.set(refresh_error_style="by_cause")
    token = connect(sandbox)["refresh_token"]
    sandbox.revoke_grant("jo", CLIENT_ID)

    assert refresh(sandbox, "nonsense").json == DEAD
    assert refresh(sandbox, token).json == DEAD_AS_DOCUMENTED


def test_a_wrong_secret_at_refresh_spends_nothing(sandbox: SandboxThread) -> None:
    token = connect(sandbox)["refresh_token"]

    answer = refresh(sandbox, token, client_secret="wrong")

    assert (answer.status, answer.json["error"]) == (401, "access_denied")
    assert sandbox.ledger("/oauth/token")[-1]["committed"] is False
    assert refresh(sandbox, token).status == 200


def test_two_consents_are_one_grant_with_two_chains(sandbox: SandboxThread) -> None:
    first, second = connect(sandbox), connect(sandbox)

    assert len(sandbox.state()["grants"]) == 1
    assert refresh(sandbox, first["refresh_token"]).status == 200
    assert refresh(sandbox, second["refresh_token"]).status == 200


def test_a_new_consent_can_kill_the_older_chain(sandbox: SandboxThread) -> None:
    sandbox.set(consent_kills_older_chain=True)
    first, second = connect(sandbox), connect(sandbox)

    assert refresh(sandbox, first["refresh_token"]).status == 403
    assert refresh(sandbox, second["refresh_token"]).status == 200


def test_a_new_consent_with_fewer_scopes_narrows_what_older_tokens_reach(sandbox: SandboxThread) -> None:
    old = connect(sandbox)

    connect(sandbox, scope="offline_access read:jira-work")

    assert not is_good(sandbox, old["access_token"])
    assert refresh(sandbox, old["refresh_token"]).json["scope"] == "offline_access read:jira-work"


def test_the_refresh_token_can_be_left_out_and_the_old_one_stays_good(sandbox: SandboxThread) -> None:
    sandbox.set(omit_refresh_token_on_refresh=True)
    token = connect(sandbox)["refresh_token"]

    first = refresh(sandbox, token)
    sandbox.move_clock(2000)
    second = refresh(sandbox, token)

    assert "refresh_token" not in first.json
    assert second.status == 200


def test_rotation_can_be_switched_off(sandbox: SandboxThread) -> None:
    sandbox.set(rotate=False)
    token = connect(sandbox)["refresh_token"]

    assert refresh(sandbox, token).json["refresh_token"] == token


def test_the_ledger_ties_calls_to_a_chain(sandbox: SandboxThread) -> None:
    old = exchange(sandbox, get_code(sandbox)).json
    new = refresh(sandbox, old["refresh_token"]).json

    first, second = sandbox.ledger("/oauth/token")

    assert first["family"] == second["family"] != ""
    assert second["grant_type"] == "refresh_token"
    assert second["presented"] == digest(old["refresh_token"]) == first["issued_refresh"]
    assert second["issued_refresh"] == digest(new["refresh_token"])
    assert sandbox.state()["families"][0]["newest_refresh_token"] == digest(new["refresh_token"])


@pytest.mark.parametrize(("switched", "status"), [(404, 404), (200, 200)])
def test_the_revoke_endpoint_is_there_only_when_switched_on(
    sandbox: SandboxThread, switched: int, status: int
) -> None:
    sandbox.set(revoke_endpoint=switched)
    tokens = connect(sandbox)
    form = {"token": tokens["refresh_token"], "client_id": CLIENT_ID}
    form["client_secret"] = "ATOAsandbox-client-secret-for-the-demo"

    answer = call(f"{sandbox.url}/oauth/revoke", form=form)

    assert answer.status == status
    assert is_good(sandbox, tokens["access_token"]) is (switched == 404)
