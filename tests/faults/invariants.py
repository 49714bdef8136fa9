"""What must hold after every step of the state machine: the invariants I1 to I12, and what the model must know for them."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection
from hypothesis.stateful import RuleBasedStateMachine, invariant

from bench.faults import clock
from bench.faults.judge import calls_of, find_double
from bench.faults.world import new_cell
from portal.encryption import unseal
from providers import http, oauth
from providers.oauth import OutgoingRequest
from providers.sandbox.tokens import digest
from providers.spec import Outcome
from tests.factories import CANARY
from tokens.gate import LEASE
from tokens.models import Grant, GrantStatus, GrantTokens, RefreshAttempt

if TYPE_CHECKING:
    import uuid

    from providers.sandbox.thread import SandboxThread

GRANTS = 2


@dataclass(frozen=True)
class Now:
    """Everything there is to see at one moment, read once."""

    at: dt.datetime
    grants: list[Grant]
    tokens: dict[uuid.UUID, str]
    attempts: list[RefreshAttempt]
    calls: list[dict[str, Any]]

    def attempts_of(self, grant: Grant) -> list[RefreshAttempt]:
        """Return what was tried with the grant's present generation."""
        return [one for one in self.attempts if (one.grant_id, one.gen) == (grant.pk, grant.gen)]


class WatchedMachine(RuleBasedStateMachine):
    """A machine without rules, whose every step is judged by the provider's ledger and by what the model knows."""

    def __init__(self, sandbox: SandboxThread) -> None:
        super().__init__()
        self.sandbox = sandbox
        sandbox.reset()
        with connection.cursor() as cursor:
            cursor.execute("UPDATE moved.clock SET by = '0'")
        self.cell = new_cell(sandbox, "any", "any", grants=GRANTS, provider="atlassian", life=2000)
        # Accepted answers, the newest refresh token, whom the provider has ended, and what people have taken back.
        self.gens = dict.fromkeys(self.cell.grants, 0)
        self.newest = {grant: self.stored(grant) for grant in self.cell.grants}
        self.ended: set[uuid.UUID] = set()
        self.revoked: set[uuid.UUID] = set()
        self.handed_out: list[tuple[uuid.UUID, str, dt.datetime]] = []

    @invariant()
    def everything_holds(self) -> None:
        now = self._look()
        self._one_claim_a_grant_and_it_ends_i1_i11(now)
        self._gen_grows_by_one_an_accepted_answer_i2(now)
        self._the_newest_accepted_token_is_stored_and_honoured_i3(now)
        self._one_call_a_generation_i5_i6(now)
        self._what_may_have_been_spent_is_on_record_i5(now)
        self._a_grant_ends_only_when_the_provider_has_ended_it_i7_i8_i9(now)
        self._what_was_taken_back_stays_so_and_is_erased(now)
        self._no_secret_is_in_the_journal_i10(now)
        self._a_token_works_as_long_as_we_said_i12(now)

    def _look(self) -> Now:
        grants = list(Grant.objects.filter(pk__in=self.cell.grants))
        rows = GrantTokens.objects.select_related("grant").filter(grant__in=self.cell.grants)
        return Now(
            clock.database_now(),
            grants,
            {row.grant_id: unseal(row, "refresh_token") or "" for row in rows},
            list(RefreshAttempt.objects.filter(grant__in=self.cell.grants).order_by("epoch")),
            calls_of(self.cell, self.sandbox),
        )

    def _one_claim_a_grant_and_it_ends_i1_i11(self, now: Now) -> None:
        for grant in now.grants:
            is_open = [
                one for one in now.attempts_of(grant) if not one.outcome and one.claimed_at > now.at - LEASE
            ]
            assert len(is_open) <= 1, "I1"
            assert grant.claim_until is None or grant.claim_until <= now.at + LEASE, "I11"

    def _gen_grows_by_one_an_accepted_answer_i2(self, now: Now) -> None:
        assert {grant.pk: grant.gen for grant in now.grants} == self.gens, "I2"

    def _the_newest_accepted_token_is_stored_and_honoured_i3(self, now: Now) -> None:
        alive = set(self.gens) - self.revoked
        assert {grant: now.tokens.get(grant) for grant in alive} == {
            grant: self.newest[grant] for grant in alive
        }, "I3: stored"
        refusals = self.sandbox.refusals([digest(self.newest[grant]) for grant in alive - self.ended])
        assert set(refusals.values()) <= {""}, f"I3: {refusals}"

    def _one_call_a_generation_i5_i6(self, now: Now) -> None:
        self.cell.problems.clear()
        assert find_double(self.cell, now.calls, now.attempts) == 0, f"I5: {self.cell.problems}"
        assert not [call for call in now.calls if call["reason"].startswith("reuse")], "I6"

    def _what_may_have_been_spent_is_on_record_i5(self, now: Now) -> None:
        for grant in now.grants:
            unsure = [one for one in now.attempts_of(grant) if one.outcome in ("", Outcome.AMBIGUOUS)]
            if unsure and grant.status == GrantStatus.ACTIVE:
                assert grant.inflight_gen == grant.gen, "I5: the next attempt would not know of it"

    def _a_grant_ends_only_when_the_provider_has_ended_it_i7_i8_i9(self, now: Now) -> None:
        for grant in now.grants:
            if grant.status == GrantStatus.NEEDS_RECONNECT:
                outcomes = Counter(one.outcome for one in now.attempts_of(grant))
                assert outcomes[Outcome.GRANT_DEAD] > 1, "I7: said, and confirmed"
                assert grant.pk in self.ended, "I9: nobody has ended it"

    def _what_was_taken_back_stays_so_and_is_erased(self, now: Now) -> None:
        assert {grant.pk for grant in now.grants if grant.status == GrantStatus.REVOKED} == self.revoked
        assert not self.revoked & set(now.tokens), "Disconnected means erased"

    def _no_secret_is_in_the_journal_i10(self, now: Now) -> None:
        for one in now.attempts:
            words = f"{one.worker} {one.error_code} {one.cause}"
            assert not [secret for secret in (CANARY, *now.tokens.values()) if secret in words], "I10"

    def _a_token_works_as_long_as_we_said_i12(self, now: Now) -> None:
        # Our clock and the sandbox's are read one after the other.
        soon = now.at + dt.timedelta(seconds=5)
        gone = self.ended | self.revoked
        self.handed_out = [one for one in self.handed_out if one[2] > soon and one[0] not in gone]
        # One says the same of all copies of a token, and the oldest is the first to end.
        for token, grant in {token: grant for grant, token, _ in self.handed_out[:6]}.items():
            assert self._works(token), f"I12: {grant}"

    def stored(self, grant: uuid.UUID) -> str:
        row = GrantTokens.objects.select_related("grant").get(grant=grant)
        return unseal(row, "refresh_token") or ""

    def _works(self, token: str) -> bool:
        request = OutgoingRequest("GET", f"{self.sandbox.url}/me", {"Authorization": f"Bearer {token}"}, b"")
        answer = http.send_blocking(request)
        return isinstance(answer, oauth.Answer) and answer.status == 200
