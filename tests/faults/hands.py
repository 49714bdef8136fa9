"""The hands of the state machine's figures: what a worker, a reader, a person or time itself does in one step."""

from __future__ import annotations

import datetime as dt
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.faults import clock
from portal.audit import SYSTEM
from portal.encryption import unseal
from providers import http, oauth
from providers.models import ProviderConfig
from providers.oauth import Failure, TokenSet
from providers.sandbox.tokens import digest
from providers.sites import SiteInfo
from providers.spec import Outcome
from tests.faults.invariants import GRANTS, WatchedMachine
from tests.tokens.connecting import opened
from tokens.claim import Claim, claim_due
from tokens.commit import commit
from tokens.confirm import confirm
from tokens.errors import TokenError
from tokens.exchanged import Account, Exchanged
from tokens.gate import LEASE, PROBE_EVERY
from tokens.guard import let_end
from tokens.hand_out import hand_out
from tokens.models import Grant, GrantStatus, GrantTokens, Trigger
from tokens.refresh import prepare, too_late
from tokens.replan import replan_all
from tokens.results import Result
from tokens.revoke import revoke
from tokens.store import store_grant

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from providers.sandbox.thread import SandboxThread

LEEWAY_S = 600
# A claim is over, a refusal may be confirmed, and every pause after a lost answer but the last is too.
A_WHILE = LEASE.total_seconds() + 10
# What can happen to a token request.
FAULTS: dict[str, dict[str, Any]] = {
    "drop_before_commit": {},
    "drop_after_commit": {},
    "status_before": {"status": 503},
    "status_after": {"status": 502},
    "throttle": {"retry_after": 20},
    "html_200": {},
    "null_token": {},
    "truncated": {},
}
NONE = "none"


@dataclass
class Flying:
    """A claim in the hands of a worker, with the answer if there is one already."""

    claim: Claim
    result: Result | None = None


class Hands(WatchedMachine):
    def __init__(self, sandbox: SandboxThread) -> None:
        super().__init__(sandbox)
        self.flying: list[Flying] = []

    def _claim(self, limit: int) -> list[Flying]:
        now = clock.database_now()
        held = {pk for pk, row in self._rows().items() if row["claim_until"] and row["claim_until"] > now}
        mine = [Flying(claim) for claim in claim_due(limit=limit, trigger=Trigger.BEAT)]
        assert not held & {one.claim.grant_id for one in mine}, "I1: somebody held it"
        return mine

    def _work(self, fault: str) -> None:
        mine = self._claim(GRANTS)
        for one in mine:
            self._send(one, fault)
        if mine:
            self._commit(mine)

    def _send(self, one: Flying, fault: str) -> None:
        config = ProviderConfig.objects.select_related("application").get(pk=one.claim.provider_config_id)
        request = prepare(one.claim, config)
        if isinstance(request, Result):
            one.result = request
        elif too_late(one.claim):
            one.result = Result(one.claim, config, Failure(Outcome.NOT_SENT, cause="too late"))
        else:
            sent = time.monotonic()
            with self._broken(fault):
                answer = http.send_blocking(request)
            came_to = oauth.read_token_answer(config.spec, answer, grant_type="refresh_token")
            one.result = Result(one.claim, config, came_to, sent, time.monotonic())

    @contextmanager
    def _broken(self, fault: str) -> Iterator[None]:
        if fault == NONE:
            yield
            return
        self.sandbox.fault(fault, client_id=self.cell.client_id, **FAULTS[fault])
        yield
        self.sandbox.clear_faults()

    def _commit(self, chosen: list[Flying]) -> None:
        results = [one.result for one in chosen if one.result is not None]
        before = self._rows()
        done = commit(results)
        after = self._rows()
        for result in results:
            grant, came_to = result.claim.grant_id, result.came_to
            outcome = done[grant].outcome
            if outcome == Outcome.OK:
                assert isinstance(came_to, TokenSet)
                assert result.claim.gen == self.gens[grant], "I2: another generation's answer was accepted"
                assert after[grant]["status"] == GrantStatus.ACTIVE, "I8"
                self.gens[grant] += 1
                self.newest[grant] = came_to.refresh_token or self.newest[grant]
            elif result.claim.epoch != before[grant]["claim_epoch"] or grant in self.revoked:
                assert after[grant] == before[grant], "I2: what was overtaken has changed something"
            elif not isinstance(came_to, Failure) or came_to.outcome != Outcome.GRANT_DEAD:
                assert after[grant]["status"] == before[grant]["status"], (
                    "I9: only a verdict on it ends a grant"
                )
        self.flying = [one for one in self.flying if one not in chosen]

    def _recover(self) -> None:
        """Let workers without any fault do what is due, until nothing is unsure."""
        for one in self.flying:
            if one.result is None:
                self._send(one, NONE)
        while self.flying:
            self._commit([self.flying[0]])
        if let_end(self.cell.config, actor=SYSTEM):
            replan_all()
        for _ in range(20):
            if not self._unsure_for(0):
                return
            # At least as long as a configuration that does not work is left alone.
            self._pass(max(PROBE_EVERY.total_seconds() + 1, self._seconds_until_due()))
            self._work(NONE)

    def _rows(self) -> dict[uuid.UUID, dict[str, Any]]:
        return {row["id"]: row for row in Grant.objects.filter(pk__in=self.cell.grants).values()}

    # --- Hands of others --------------------------------------------------------------------------------------

    def _read(self, which: uuid.UUID, *, min_ttl: int, fault: str) -> None:
        grant, now = Grant.objects.get(pk=which), clock.database_now()
        if grant.claim_until is not None and grant.claim_until > now and not grant.is_fresh(now):
            # It would wait for the other one, who moves only when this step is done.
            return
        handed = None
        with self._broken(fault), suppress(TokenError):
            handed = hand_out(grant, min_ttl=dt.timedelta(seconds=min_ttl), actor=SYSTEM)
        gen = Grant.objects.get(pk=which).gen
        assert gen in (grant.gen, grant.gen + 1), "I2"
        if gen == grant.gen + 1:
            self.gens[which], self.newest[which] = gen, self.stored(which)
        if handed:
            row = GrantTokens.objects.select_related("grant").get(grant=which)
            assert handed.access_token == unseal(row, "access_token"), "I4: not the committed token"
            assert handed.use_until is not None
            self.handed_out.append((which, handed.access_token, handed.use_until))

    def _remove(self, which: uuid.UUID) -> None:
        if which not in self.ended:
            self.sandbox.revoke_grant(Grant.objects.get(pk=which).end_user, self.cell.client_id)
            self.ended.add(which)

    def _revoke(self, which: uuid.UUID) -> None:
        """Take a grant back; the person connects again, so that there is always something to break."""
        revoke(Grant.objects.get(pk=which), actor=SYSTEM)
        self.revoked.add(which)
        self._connect(which)

    def _connect(self, which: uuid.UUID) -> None:
        before = Grant.objects.get(pk=which)
        minted = self.sandbox.mint(self.cell.client_id, account=before.end_user)[0]
        session, _ = opened(self.cell.config, end_user=before.end_user)
        lifetime = dt.timedelta(seconds=minted["expires_in"])
        tokens = TokenSet(minted["access_token"], minted["refresh_token"], lifetime, None)
        sites = (SiteInfo("cloud", "acme", "https://acme.example", ("Jira",), ()),)
        brought = Exchanged(
            tokens, Account(before.account_id), sites, ("read:me",), received_at=clock.database_now()
        )
        grant = store_grant(session, brought, chosen=["cloud"], actor=SYSTEM)
        if grant.pk not in self.gens:
            confirm(grant, actor=SYSTEM)
            self.cell.grants.append(grant.pk)
        self.gens[grant.pk] = self.gens.get(grant.pk, 0) + 1
        self.newest[grant.pk] = minted["refresh_token"]
        self.cell.known[digest(minted["refresh_token"])] = (grant.pk, self.gens[grant.pk])
        self.ended.discard(grant.pk)

    # --- Time -------------------------------------------------------------------------------------------------

    def _pass(self, seconds: float) -> None:
        clock.let_pass(seconds, self.sandbox)
        # A worker's own clock goes on as well: a claim that has waited too long is not used to send, and a token that
        # has waited to be stored is as old as it is.
        for one in self.flying:
            one.claim = replace(one.claim, send_before=one.claim.send_before - seconds)
            if one.result and one.result.sent and one.result.answered:
                sent, answered = one.result.sent - seconds, one.result.answered - seconds
                one.result = replace(one.result, sent=sent, answered=answered)

    def _pass_unless_unsure(self, seconds: float) -> None:
        """Let time pass, as far as a system with a beat could have done nothing meanwhile."""
        if self._unsure_for(LEEWAY_S / 3 - seconds):
            self._recover()
        self._pass(seconds)

    def _wait_until_due(self) -> None:
        """Let time pass until there is something to claim, however long that is."""
        if self._unsure_for(100):
            self._recover()
        self._pass_unless_unsure(self._seconds_until_due())

    def _seconds_until_due(self) -> float:
        """Return how long it is until something can be claimed; 0 if that is now, or never."""
        alive = Grant.objects.filter(pk__in=self.cell.grants, status=GrantStatus.ACTIVE)
        now = clock.database_now()
        dues = [
            max(due, until or due) for due, until in alive.values_list("refresh_due_at", "claim_until") if due
        ]
        return max(0.0, (min(dues, default=now) - now).total_seconds()) + 0.01

    def _unsure_for(self, seconds: float) -> bool:
        """Tell whether an answer has been under way, or lost, for longer than that."""
        then = clock.database_now() - dt.timedelta(seconds=seconds)
        return Grant.objects.filter(pk__in=self.cell.grants, inflight_since__lt=then).exists()

    def _grant(self, which: int) -> Grant:
        alive = [grant for grant in self.cell.grants if grant not in self.revoked]
        return Grant.objects.get(pk=alive[which % len(alive)])
