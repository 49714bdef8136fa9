"""Judge a cell by what the provider saw and would accept, never by the engine's word alone.

Lost: the provider would refuse the refresh token that is stored, or a grant has ended that the provider has not ended.
Spent twice (I5): more calls with one generation's token than its journal explains. What explains one more call is an
attempt before it that is on record as not accepted or without an outcome: ambiguous, throttled, refused, never sent, or
a claim that ran out with nothing written down.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from bench.faults.clock import database_now
from bench.faults.world import grants_of
from providers.sandbox.tokens import digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.faults.world import Cell
    from providers.sandbox.client import SandboxClient

EXPLAINED = {"ambiguous", "throttled", "not_sent", "client_bad", "grant_dead", "unreadable"}


def judge(cell: Cell, sandbox: SandboxClient) -> None:
    """Fill in what the cell came to."""
    count_lost(cell, sandbox)
    count_double(cell, sandbox)
    now = database_now()
    for grant in grants_of(cell):
        is_claimed = grant.claim_until is not None and grant.claim_until > now
        if grant.inflight_gen is not None or is_claimed:
            cell.in_flight += 1
    if cell.recovered is None and not cell.is_hopeless:
        cell.problems.append("did not recover")


def count_lost(cell: Cell, sandbox: SandboxClient) -> None:
    from portal.encryption import unseal
    from tokens.models import GrantTokens

    stored = {
        row.grant: digest(unseal(row, "refresh_token") or "")
        for row in GrantTokens.objects.select_related("grant").filter(grant__in=cell.grants)
    }
    refusals = sandbox.refusals(list(stored.values()))
    for grant, name in stored.items():
        if refusals[name] or grant.status != "active":
            cell.lost += 1
            why = refusals[name] or "the provider would still honour it"
            cell.causes.append(f"{grant.cause or grant.status} (provider: {why})")


def calls_of(cell: Cell, sandbox: SandboxClient) -> list[dict[str, Any]]:
    """Return the provider's record of the cell's refreshes."""
    calls = sandbox.ledger("/oauth/token", since=cell.first_call)
    return [call for call in calls if call["client_id"] == cell.client_id and call["presented"]]


def count_double(cell: Cell, sandbox: SandboxClient) -> None:
    from tokens.models import RefreshAttempt

    attempts = RefreshAttempt.objects.filter(grant__in=cell.grants).order_by("epoch")
    cell.double += find_double(cell, calls_of(cell, sandbox), attempts)


def find_double(cell: Cell, made: Iterable[dict[str, Any]], journal: Iterable[Any]) -> int:
    """Return how many calls the journal, in the order of its claims, does not explain; what they were, the cell is told."""
    double = 0
    calls = Counter[Any]()
    for call in made:
        if call["presented"] not in cell.known:
            double += 1
            cell.problems.append("presented a token that is not of this chain")
            continue
        grant, gen = cell.known[call["presented"]]
        calls[grant, gen] += 1
        if call["issued_refresh"]:
            cell.known[call["issued_refresh"]] = (grant, gen + 1)
    attempts = defaultdict(list)
    for attempt in journal:
        attempts[attempt.grant_id, attempt.gen].append(attempt)
    for place, number in calls.items():
        mine = attempts[place]
        allowed = min(len(mine), 1) + sum(_explains(*pair) for pair in itertools.pairwise(mine))
        if number > allowed:
            double += number - allowed
            cell.problems.append(
                f"gen {place[1]}: {number} calls, outcomes {[attempt.outcome for attempt in mine]}"
            )
    return double


def _explains(attempt: Any, after: Any) -> bool:
    """Tell whether `after` was right to spend the same token again, by what was on record when it claimed."""
    from tokens.gate import LEASE

    if attempt.committed_at is not None and attempt.committed_at <= after.claimed_at:
        return attempt.outcome in EXPLAINED
    return bool(after.claimed_at - attempt.claimed_at >= LEASE)
