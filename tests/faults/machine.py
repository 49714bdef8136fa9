"""The state machine: workers, readers, people, admins, a provider and time, one step after the other, in any order.

It drives the real claim, commit, verdict and hand-out on PostgreSQL against the real sandbox, one step at a time, so
that every interleaving of steps can be had. Some rules are one step of one worker; others are a whole story whose
middle is drawn, since the orders that break something are long, and seldom come about by chance alone.
"""

from __future__ import annotations

from django.conf import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from bench.faults.world import SECRET
from providers.models import ProviderConfig, ProviderHealth
from tests.faults.hands import A_WHILE, FAULTS, LEEWAY_S, NONE, Flying, Hands
from tests.faults.invariants import GRANTS
from tokens.claim import claim_due, claim_one
from tokens.erase import erase_all_of_provider
from tokens.models import Grant, Trigger

# As often nothing as anything.
faults = st.just(NONE) | st.sampled_from(sorted(FAULTS))
anything = st.integers(min_value=0, max_value=99)


class Machine(Hands):
    # --- Workers ----------------------------------------------------------------------------------------------

    @rule(
        step=st.sampled_from(["claim", "send", "commit", "commit all", "crash"]), which=anything, fault=faults
    )
    def a_worker_takes_a_step(self, step: str, which: int, fault: str) -> None:
        waiting = [one for one in self.flying if one.result is None]
        answered = [one for one in self.flying if one.result is not None]
        if step == "claim":
            self.flying += self._claim(which % GRANTS + 1)
        elif step == "send" and waiting:
            self._send(waiting[which % len(waiting)], fault)
        elif step == "commit" and answered:
            self._commit([answered[which % len(answered)]])
        elif step == "commit all":
            # A group holds each grant once, as the engine's does: nobody else can hold a claim of it.
            self._commit(list({one.claim.grant_id: one for one in answered}.values()))
        elif step == "crash" and self.flying:
            self.flying.pop(which % len(self.flying))

    @rule(fault=faults, rounds=st.integers(min_value=1, max_value=3))
    def work(self, fault: str, rounds: int) -> None:
        """Do what is due, as often as it fails and is due again, as workers without any trouble of their own do."""
        self._wait_until_due()
        for _ in range(rounds):
            self._work(fault)
            self._pass(A_WHILE)

    @rule(
        is_sent=st.booleans(),
        fault=faults,
        meanwhile=st.sampled_from(["nothing", "another", "reconnect", "revoke", "remove"]),
    )
    def one_worker_is_stopped(self, *, is_sent: bool, fault: str, meanwhile: str) -> None:
        """Let the world go on without a worker that holds a claim, and perhaps its answer; then it comes back."""
        self._wait_until_due()
        mine = self._claim(1)
        if not mine:
            return
        self.flying += mine
        if is_sent:
            self._send(mine[0], fault)
        grant = mine[0].claim.grant_id
        if meanwhile == "nothing":
            # Its claim lives: whoever comes now leaves it alone.
            self._work(NONE)
            self._read(grant, min_ttl=1700, fault=NONE)
            row = Grant.objects.get(pk=grant)
            assert claim_one(row, trigger=Trigger.MEMBER, is_forced=True) is None, "I1: somebody holds it"
        elif meanwhile == "reconnect":
            self._connect(grant)
        elif meanwhile == "revoke":
            self._revoke(grant)
        else:
            if meanwhile == "remove":
                self._remove(grant)
            for _ in range(2):
                self._pass(A_WHILE)
                self._work(NONE)
        self.everything_holds()
        if not self._unsure_for(0):
            self._pass(LEEWAY_S + 100)
        if not is_sent:
            self._send(mine[0], fault)
        self._commit(mine)

    # --- Others -----------------------------------------------------------------------------------------------

    @rule(which=anything, fault=faults, pause=st.sampled_from([0, 100]))
    def a_person_refreshes_early(self, which: int, fault: str, pause: int) -> None:
        """Refresh a token that others have in their hands, and hand it out again while the answer is not certain."""
        if self._unsure_for(0):
            self._recover()
        grant = self._grant(which)
        self._read(grant.pk, min_ttl=0, fault=NONE)
        claim = claim_one(grant, trigger=Trigger.MEMBER, is_forced=True)
        if claim is None:
            return
        mine = Flying(claim)
        self._send(mine, fault)
        self._commit([mine])
        if pause:
            self._pass(pause)
            # The second try goes as the first: the old token's end is counted from the first.
            self._work(fault)
        self._read(grant.pk, min_ttl=0, fault=NONE)
        self._recover()
        self._pass(LEEWAY_S - pause / 2)

    @rule(which=anything, min_ttl=st.sampled_from([0, 60, 300, 1700]), fault=faults)
    def a_program_reads(self, which: int, min_ttl: int, fault: str) -> None:
        self._read(self._grant(which).pk, min_ttl=min_ttl, fault=fault)

    @rule(which=anything, noticed=st.integers(min_value=0, max_value=2))
    def a_person_removes_the_app(self, which: int, noticed: int) -> None:
        """End a grant at the provider, and let workers be told of it so often."""
        if self._unsure_for(100):
            self._recover()
        self._remove(self._grant(which).pk)
        for _ in range(noticed):
            self._wait_until_due()
            self._work(NONE)

    @rule(which=anything, first=st.sampled_from(["", "revoke"]))
    def a_person_connects_again(self, which: int, first: str) -> None:
        grant = self._grant(which).pk
        if first:
            self._revoke(grant)
        else:
            self._connect(grant)

    @rule(rounds=st.integers(min_value=2, max_value=3))
    def the_secret_is_wrong_for_a_while(self, rounds: int) -> None:
        self._wait_until_due()
        self.sandbox.register_client(self.cell.client_id, "ATOAanother")
        for _ in range(rounds):
            self._work(NONE)
            self._pass(A_WHILE)
        self.sandbox.register_client(self.cell.client_id, SECRET)

    @rule(seconds=st.sampled_from([1, 15, 60, 90, 240, 900, 3600]))
    def time_passes(self, seconds: int) -> None:
        self._pass_unless_unsure(seconds)

    def teardown(self) -> None:
        """Let everything recover: then nothing is in flight, and what lives at the provider lives here (I3, I11)."""
        try:
            self._recover()
            for grant in Grant.objects.filter(pk__in=self.cell.grants):
                assert grant.inflight_gen is None, "I11: in flight for ever"
            self.everything_holds()
            self._wait_until_due()
            self._a_copy_of_the_database_does_nothing()
        finally:
            # The guard counts what has ended of a provider, and the next example's begins at none.
            erase_all_of_provider(self.cell.config)
            ProviderConfig.objects.all().delete()
            ProviderHealth.objects.all().delete()

    def _a_copy_of_the_database_does_nothing(self) -> None:
        settings.INSTANCE_ID = "a-copy"
        try:
            assert claim_due(limit=10, trigger=Trigger.BEAT) == []
        finally:
            settings.INSTANCE_ID = "the-original"
