"""Attempts added up: how many went well, and how quickly answers came."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from providers.spec import Outcome
from tokens import latency, latency_chart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokens.spans import Slice


@dataclass(frozen=True)
class Tally:
    """Attempts added up."""

    ok: int = 0
    failed: int = 0
    latencies: list[int] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Return how many attempts there were."""
        return self.ok + self.failed

    @property
    def success(self) -> str:
        """Return the share of attempts that went well, in words; never "100 %" while one failed."""
        if not self.total:
            return "none yet"
        share = self.ok / self.total * 100
        if self.failed:
            share = min(share, 99.99)
        return f"{share:.2f}".rstrip("0").rstrip(".") + " %"

    @property
    def times(self) -> list[str]:
        """Return p50, p95 and p99 in words."""
        return [
            latency.in_words(latency.percentile(self.latencies, share))
            for share in latency_chart.SHARES.values()
        ]

    @property
    def p95(self) -> str:
        """Return the time within which 95 % of the answers came, in words."""
        return self.times[1]


def of(slices: Iterable[Slice]) -> Tally:
    """Add attempts up."""
    kept = list(slices)
    return Tally(
        ok=sum(one.count for one in kept if one.outcome == Outcome.OK),
        failed=sum(one.count for one in kept if one.outcome != Outcome.OK),
        latencies=latency.added([one.latencies for one in kept]),
    )


def added(tallies: Iterable[Tally]) -> Tally:
    """Return several as one."""
    all_of_them = list(tallies)
    return Tally(
        ok=sum(one.ok for one in all_of_them),
        failed=sum(one.failed for one in all_of_them),
        latencies=latency.added([one.latencies for one in all_of_them]),
    )
