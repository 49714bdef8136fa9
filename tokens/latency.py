"""How long providers take to answer, kept as counts between fixed bounds, so that any span can be added up."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# In seconds, each bound included. The last count is for what took longer than all of them.
BOUNDS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0,
)  # fmt: skip
SIZE = len(BOUNDS) + 1

# In SQL: the columns `latencies` of several rows as one array.
SUM = f"ARRAY[{', '.join(f'coalesce(sum(latencies[{place + 1}]), 0)::bigint' for place in range(SIZE))}]"
# The same of rows with a column `place` each.
COUNTED = f"ARRAY[{', '.join(f'count(*) FILTER (WHERE place = {place})' for place in range(SIZE))}]"


def place_of(seconds: float) -> int:
    """Return which of the counts an answer belongs to."""
    return bisect_left(BOUNDS, seconds)


def percentile(counts: Sequence[int], share: float) -> float | None:
    """Return the time in seconds within which `share` (0.99, say) of the answers came; None without any.

    Between two bounds answers count as evenly spread. Beyond the last one it is what is known: that bound.
    """
    total = sum(counts)
    if not total:
        return None
    wanted, seen = share * total, 0
    for place, count in enumerate(counts):
        if count and seen + count >= wanted:
            if place == len(BOUNDS):
                break
            low = BOUNDS[place - 1] if place else 0.0
            return low + (BOUNDS[place] - low) * (wanted - seen) / count
        seen += count
    return BOUNDS[-1]


def added(histograms: Sequence[Sequence[int]]) -> list[int]:
    """Return several histograms as one; an empty one counts for nothing."""
    sums = [0] * SIZE
    for counts in histograms:
        for place, count in enumerate(counts):
            sums[place] += count
    return sums


def in_words(seconds: float | None) -> str:
    """Say a time as people read it: "86 ms", "1.4 s", "over 20 s"."""
    if seconds is None:
        return "none yet"
    if seconds >= BOUNDS[-1]:
        return f"over {BOUNDS[-1]:.0f} s"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
