"""The invariants I1 to I12 of the refresh engine, checked after every step of whatever Hypothesis comes up with.

The machine plays workers that claim, send and commit in any order, and die; readers, people and admins; a provider that
loses answers; and time. It drives the real claim, commit, verdict and hand-out on PostgreSQL against the real sandbox,
one step at a time, so that every interleaving of steps can be had. Whatever it breaks it prints as a program.
"""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.db import connection
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bench.faults import clock
from bench.faults.judge import calls_of, count_double
from bench.faults.world import SECRET, new_cell, put_away
from portal.audit import SYSTEM
from portal.encryption import unseal
from portal.models import Instance
from providers import http, oauth
from providers.models import ProviderConfig
from providers.oauth import Failure, OutgoingRequest, TokenSet
from providers.sandbox.tokens import digest
from providers.sites import SiteInfo
from providers.spec import Outcome
from tests.factories import CANARY
from tests.tokens.connecting import opened
from tokens.claim import Claim, claim_due
from tokens.commit import commit
from tokens.errors import TokenError
from tokens.exchanged import Account, Exchanged
from tokens.gate import LEASE
from tokens.hand_out import hand_out
from tokens.models import Grant, GrantStatus, GrantTokens, RefreshAttempt, Trigger
from tokens.refresh import prepare, too_late
from tokens.results import Result
from tokens.revoke import revoke
from tokens.store import store_grant

if TYPE_CHECKING:
    import uuid

    from providers.sandbox.thread import SandboxThread

pytestmark = [pytest.mark.slow, pytest.mark.django_db]

EXAMPLES = int(os.environ.get("INVARIANT_EXAMPLES", "8"))
GRANTS = 2
LEEWAY_S = 600
# What can happen to a token request, and whether the provider's own word ends the grant.
FAULTS: dict[str, dict[str, Any]] = {
    "none": {},
    "drop_before_commit": {},
    "drop_after_commit": {},
    "status_before": {"status": 503},
    "status_after": {"status": 502},
    "throttle": {"retry_after": 20},
    "html_200": {},
    "null_token": {},
    "truncated": {},
}
anything = st.integers(min_value=0, max_value=99)


@dataclass
class Flying:
    """A claim in the hands of a worker, with the answer if there is one already."""

    claim: Claim
    result: Result | None = None


class Machine(RuleBasedStateMachine):
    def __init__(self, sandbox: SandboxThread) -> None:
        super().__init__()
        self.sandbox = sandbox
        sandbox.reset()
        with connection.cursor() as cursor:
            cursor.execute("UPDATE moved.clock SET by = '0'")
        self.cell = new_cell(sandbox, "any", "any", grants=GRANTS, provider="atlassian", life=2000)
        self.flying: list[Flying] = []
        # What the model knows: accepted answers, the newest refresh token, and whom the provider has ended.
        self.gens = dict.fromkeys(self.cell.grants, 0)
        self.newest = {grant: self._stored(grant) for grant in self.cell.grants}
        self.ended: set[uuid.UUID] = set()
        self.handed_out: list[tuple[uuid.UUID, str, dt.datetime]] = []

    # --- Workers ----------------------------------------------------------------------------------------------

    @rule(limit=st.integers(min_value=1, max_value=GRANTS))
    def claim(self, limit: int) -> None:
        self.flying += [Flying(claim) for claim in claim_due(limit=limit, trigger=Trigger.BEAT)]

    @rule(fault=st.sampled_from(sorted(FAULTS)))
    def work(self, fault: str) -> None:
        """Do all that is due in one go, as a worker without any trouble of its own does."""
        mine = [Flying(claim) for claim in claim_due(limit=GRANTS, trigger=Trigger.BEAT)]
        for one in mine:
            self._send(one, fault)
        if mine:
            self._commit(mine)

    @precondition(lambda self: any(one.result is None for one in self.flying))
    @rule(which=anything, fault=st.sampled_from(sorted(FAULTS)))
    def send(self, which: int, fault: str) -> None:
        waiting = [one for one in self.flying if one.result is None]
        self._send(waiting[which % len(waiting)], fault)

    @precondition(lambda self: any(one.result is not None for one in self.flying))
    @rule(which=anything, is_group=st.booleans())
    def commit(self, which: int, *, is_group: bool) -> None:
        answered = [one for one in self.flying if one.result is not None]
        chosen = answered if is_group else [answered[which % len(answered)]]
        # A group holds each grant once, as the engine's does: nobody else can hold a claim of it.
        by_grant = {one.claim.grant_id: one for one in chosen}
        self._commit(list(by_grant.values()))

    @precondition(lambda self: self.flying)
    @rule(which=anything)
    def crash(self, which: int) -> None:
        self.flying.pop(which % len(self.flying))

    @precondition(lambda self: self.flying and not self.unsure_for(100))
    @rule()
    def sleep_beyond_the_claim(self) -> None:
        """Let the workers sleep until others have claimed what they hold, and have been answered."""
        self._pass(LEASE.total_seconds() + 1)
        others = [Flying(claim) for claim in claim_due(limit=GRANTS, trigger=Trigger.BEAT)]
        for one in others:
            self._send(one, "none")
        self.flying += others

    # --- Others -----------------------------------------------------------------------------------------------

    @rule(which=anything, min_ttl=st.sampled_from([0, 60, 300]))
    def read(self, which: int, min_ttl: int) -> None:
        grant = self._grant(which)
        now = clock.database_now()
        if grant.claim_until is not None and grant.claim_until > now and not grant.is_fresh(now):
            # It would wait for the other one, who moves only when this step is done.
            return
        gen = grant.gen
        try:
            handed = hand_out(grant, min_ttl=dt.timedelta(seconds=min_ttl), actor=SYSTEM)
        except TokenError:
            self._catch_up(grant.pk, gen)
            return
        self._catch_up(grant.pk, gen)
        row = GrantTokens.objects.select_related("grant").get(grant=grant.pk)
        assert handed.access_token == unseal(row, "access_token"), "I4: not the committed token"
        assert handed.use_until is not None
        self.handed_out.append((grant.pk, handed.access_token, handed.use_until))

    @rule(seconds=st.sampled_from([1, 15, 60, 90, 240, 900, 3600]))
    def let_pass(self, seconds: int) -> None:
        """Let time pass, as far as a system with a beat could have done nothing meanwhile."""
        if self.unsure_for(LEEWAY_S / 3 - seconds):
            self._recover()
        self._pass(seconds)

    def unsure_for(self, seconds: float) -> bool:
        """Tell whether an answer has been under way, or lost, for longer than that."""
        then = clock.database_now() - dt.timedelta(seconds=seconds)
        return Grant.objects.filter(pk__in=self.cell.grants, inflight_since__lt=then).exists()

    @rule(which=anything)
    def person_removes_the_app(self, which: int) -> None:
        grant = self._grant(which)
        if grant.pk not in self.ended and grant.status != GrantStatus.REVOKED:
            self.sandbox.revoke_grant(grant.end_user, self.cell.client_id)
            self.ended.add(grant.pk)

    @rule(which=anything)
    def reconnect(self, which: int) -> None:
        grant = self._grant(which)
        if grant.status == GrantStatus.REVOKED:
            return
        minted = self.sandbox.mint(self.cell.client_id, account=grant.end_user)[0]
        session, _ = opened(self.cell.config, end_user=grant.end_user)
        lifetime = dt.timedelta(seconds=minted["expires_in"])
        tokens = TokenSet(minted["access_token"], minted["refresh_token"], lifetime, None)
        sites = (SiteInfo("cloud", "acme", "https://acme.example", ("Jira",), ()),)
        brought = Exchanged(
            tokens, Account(grant.account_id), sites, ("read:me",), received_at=clock.database_now()
        )
        store_grant(session, brought, chosen=["cloud"], actor=SYSTEM)
        self.gens[grant.pk] += 1
        self.newest[grant.pk] = minted["refresh_token"]
        self.cell.known[digest(minted["refresh_token"])] = (grant.pk, self.gens[grant.pk])
        self.ended.discard(grant.pk)

    @rule(which=anything)
    def revoke(self, which: int) -> None:
        revoke(self._grant(which), actor=SYSTEM)

    @rule(is_right=st.booleans())
    def change_the_secret_at_the_provider(self, *, is_right: bool) -> None:
        self.sandbox.register_client(self.cell.client_id, SECRET if is_right else "ATOAanother")

    @rule()
    def a_copy_of_the_database_tries_to_work(self) -> None:
        calls = len(self.sandbox.ledger("/oauth/token"))
        settings.INSTANCE_ID = "a-copy"
        try:
            assert claim_due(limit=10, trigger=Trigger.BEAT) == []
        finally:
            settings.INSTANCE_ID = "the-original"
        assert len(self.sandbox.ledger("/oauth/token")) == calls

    # --- What must hold after every step ----------------------------------------------------------------------

    @invariant()
    def one_claim_a_grant_and_it_ends_i1_i11(self) -> None:
        now = clock.database_now()
        for grant in self._grants():
            is_open = RefreshAttempt.objects.filter(
                grant=grant, outcome="", claimed_at__gt=now - LEASE, gen=grant.gen
            )
            assert is_open.count() <= 1, "I1"
            assert grant.claim_until is None or grant.claim_until <= now + LEASE, "I11"

    @invariant()
    def gen_grows_by_one_an_accepted_answer_i2(self) -> None:
        assert {grant.pk: grant.gen for grant in self._grants()} == self.gens, "I2"

    @invariant()
    def the_newest_accepted_token_is_stored_and_honoured_i3(self) -> None:
        stored = {
            grant.pk: self._stored(grant.pk)
            for grant in self._grants()
            if grant.status != GrantStatus.REVOKED
        }
        assert stored == {grant: self.newest[grant] for grant in stored}, "I3: stored"
        refusals = self.sandbox.refusals([digest(token) for token in stored.values()])
        for grant, token in stored.items():
            assert not refusals[digest(token)] or grant in self.ended, f"I3: {refusals[digest(token)]}"

    @invariant()
    def one_call_a_generation_i5_i6(self) -> None:
        self.cell.double = 0
        count_double(self.cell, self.sandbox)
        assert self.cell.double == 0, f"I5: {self.cell.problems}"
        reused = [call for call in calls_of(self.cell, self.sandbox) if call["reason"].startswith("reuse")]
        assert reused == [], "I6"

    @invariant()
    def a_grant_ends_only_when_the_provider_has_ended_it_i7_i8_i9(self) -> None:
        for grant in self._grants():
            if grant.status == GrantStatus.NEEDS_RECONNECT:
                last = RefreshAttempt.objects.filter(grant=grant, gen=grant.gen).exclude(outcome="")
                assert "grant_dead" in last.values_list("outcome", flat=True), "I7"
                assert grant.pk in self.ended, "I9: nobody has ended it"

    @invariant()
    def no_secret_is_in_the_journal_i10(self) -> None:
        for words in RefreshAttempt.objects.filter(grant__in=self.cell.grants).values_list(
            "worker", "error_code", "cause"
        ):
            assert CANARY not in " ".join(words), "I10"

    @invariant()
    def a_token_works_as_long_as_we_said_i12(self) -> None:
        # Our clock and the sandbox's are read one after the other.
        soon = clock.database_now() + dt.timedelta(seconds=5)
        self.handed_out = [one for one in self.handed_out if one[2] > soon and one[0] not in self.ended]
        for _, token, _ in self.handed_out[:3]:
            assert self._works(token), "I12"

    def teardown(self) -> None:
        """Let everything recover: then nothing is in flight, and what lives at the provider lives here (I3, I11)."""
        try:
            self.sandbox.register_client(self.cell.client_id, SECRET)
            self._recover()
            for grant in self._grants():
                assert grant.inflight_gen is None, "I11: in flight for ever"
            self.the_newest_accepted_token_is_stored_and_honoured_i3()
        finally:
            put_away(self.cell)

    # --- Hands ------------------------------------------------------------------------------------------------

    def _send(self, one: Flying, fault: str) -> None:
        config = ProviderConfig.objects.select_related("application").get(pk=one.claim.provider_config_id)
        request = prepare(one.claim, config)
        if isinstance(request, Result):
            one.result = request
        elif too_late(one.claim):
            one.result = Result(one.claim, config, Failure(Outcome.NOT_SENT, cause="too late"))
        else:
            if fault != "none":
                self.sandbox.fault(fault, client_id=self.cell.client_id, **FAULTS[fault])
            one.result = Result(one.claim, config, self._exchange(config, request), sent=0.0, answered=0.0)
            self.sandbox.clear_faults()

    def _exchange(self, config: ProviderConfig, request: OutgoingRequest) -> TokenSet | Failure:
        answer = http.send_blocking(request)
        return oauth.read_token_answer(config.spec, answer, grant_type="refresh_token")

    def _commit(self, chosen: list[Flying]) -> None:
        results = [one.result for one in chosen if one.result is not None]
        before = {grant.pk: grant.status for grant in self._grants()}
        done = commit(results)
        for result in results:
            grant_id, came_to = result.claim.grant_id, result.came_to
            grant = Grant.objects.get(pk=grant_id)
            if done[grant_id].outcome == Outcome.OK:
                assert isinstance(came_to, TokenSet)
                assert result.claim.gen == self.gens[grant_id], "I2: another generation's answer was accepted"
                assert grant.status == GrantStatus.ACTIVE, "I8"
                self.gens[grant_id] += 1
                self.newest[grant_id] = came_to.refresh_token or self.newest[grant_id]
            elif done[grant_id].outcome != Outcome.GRANT_DEAD:
                assert grant.status == before[grant_id], "I9: only a verdict on a grant changes it"
        self.flying = [one for one in self.flying if one not in chosen]

    def _catch_up(self, grant: uuid.UUID, gen: int) -> None:
        """Let the model know what a reader's own refresh has changed."""
        now = Grant.objects.get(pk=grant).gen
        assert now in (gen, gen + 1), "I2"
        if now == gen + 1:
            self.gens[grant] = now
            self.newest[grant] = self._stored(grant)

    def _recover(self) -> None:
        """Let workers without any fault do what is due, until nothing is unsure."""
        for one in self.flying:
            self._send(one, "none") if one.result is None else None
        while self.flying:
            self._commit([self.flying[0]])
        for _ in range(40):
            unsure = Grant.objects.filter(pk__in=self.cell.grants, inflight_gen__isnull=False)
            if not unsure.exists():
                return
            for claim in claim_due(limit=10, trigger=Trigger.BEAT):
                self.flying.append(Flying(claim))
                self._send(self.flying[-1], "none")
                self._commit([self.flying[-1]])
            self._pass(15)

    def _pass(self, seconds: float) -> None:
        clock.let_pass(seconds, self.sandbox)
        # A worker's own clock goes on as well: a claim that has waited too long is not used to send.
        for one in self.flying:
            one.claim = replace(one.claim, send_before=one.claim.send_before - seconds)

    def _grants(self) -> list[Grant]:
        return list(Grant.objects.filter(pk__in=self.cell.grants))

    def _grant(self, which: int) -> Grant:
        return Grant.objects.get(pk=self.cell.grants[which % GRANTS])

    def _stored(self, grant: uuid.UUID) -> str:
        row = GrantTokens.objects.select_related("grant").get(grant=grant)
        return unseal(row, "refresh_token") or ""

    def _works(self, token: str) -> bool:
        request = OutgoingRequest("GET", f"{self.sandbox.url}/me", {"Authorization": f"Bearer {token}"}, b"")
        answer = http.send_blocking(request)
        return isinstance(answer, oauth.Answer) and answer.status == 200


def test_the_invariants_hold_after_every_step(sandbox: SandboxThread, settings: Any) -> None:
    settings.INSTANCE_ID = "the-original"
    Instance.objects.update_or_create(id=1, defaults={"instance_id": "the-original"})
    clock.install_here()

    run_state_machine_as_test(
        lambda: Machine(sandbox),
        settings=hypothesis_settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
