"""The chart of how long a provider takes to answer; drawn by templates/tokens/_latency_chart.html as SVG.

Three lines that differ in their dashes, each with its name at its end. The axis is logarithmic: a time-out would press
everything else flat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokens import latency
from tokens.chart import FLOOR, GAP, HEIGHT, LEFT, SLOTS, TOP, Mark, ticks

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from tokens.spans import Span

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
# Room for the lines' names on the right.
WIDTH = LEFT + 4 + SLOTS + 30
LABEL_HEIGHT = 12
# Where little is refreshed, most steps have no answers. So many steps apart are drawn as one line.
JOINED = 5


@dataclass(frozen=True)
class Line:
    """One percentile over the span: its path, and its name at the end."""

    name: str
    path: str
    words: str
    label_y: float


@dataclass(frozen=True)
class LatencyChart:
    """What the template draws, the sentence that says the same, and the words for the table by each step's start."""

    lines: list[Line]
    levels: list[Mark]
    hours: list[Mark]
    sentence: str
    words: dict[dt.datetime, list[str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = LEFT + 4 + SLOTS
    floor: int = FLOOR
    label_x: int = LEFT + 4 + SLOTS + 4
    label_y: int = FLOOR + 16


def draw(
    histograms: Mapping[dt.datetime, Sequence[int]], now: dt.datetime, span: Span
) -> LatencyChart | None:
    """Compute the chart from the counts of latencies by the start of each step; None if nothing was answered."""
    starts = span.starts_of(now)
    by_start = {start: histograms[start] for start in starts if any(histograms.get(start, ()))}
    if not by_start:
        return None
    times = {
        name: [_percentile(by_start.get(start), share) for start in starts] for name, share in SHARES.items()
    }
    known = [time for line in times.values() for time in line if time]
    low = math.floor(math.log10(min(known)))
    high = max(math.ceil(math.log10(max(known))), low + 1)

    def y(seconds: float) -> float:
        return round(FLOOR - (math.log10(seconds) - low) / (high - low) * (FLOOR - TOP), 1)

    whole = latency.added(list(by_start.values()))
    words = {name: latency.in_words(latency.percentile(whole, share)) for name, share in SHARES.items()}
    ends = _apart({name: y(next(time for time in reversed(line) if time)) for name, line in times.items()})
    return LatencyChart(
        lines=[
            Line(name, _path([time and y(time) for time in line]), words[name], ends[name])
            for name, line in times.items()
        ],
        levels=[
            Mark(f"{10**power:g} s" if power >= -1 else f"{10 ** (power + 3):g} ms", y=y(10.0**power) + 4)
            for power in range(low, high + 1)
        ],
        hours=ticks(span, starts),
        sentence=(
            f"In {span.words} half of the answers came within {words['p50']}, 95 % within {words['p95']}, "
            f"99 % within {words['p99']}."
        ),
        words={
            start: [latency.in_words(latency.percentile(counts, share)) for share in SHARES.values()]
            for start, counts in by_start.items()
        },
    )


def _percentile(counts: Sequence[int] | None, share: float) -> float | None:
    return latency.percentile(counts, share) if counts else None


def _path(places: list[float | None]) -> str:
    """Return a path through what is known; a long time without answers is a gap, a step alone in it a dot."""
    room = SLOTS / len(places)
    parts: list[str] = []
    last = -math.inf
    for number, y in enumerate(places):
        if y is None:
            continue
        x = round(LEFT + 4 + (number + (1 - GAP) / 2) * room, 1)
        is_joined = number - last <= JOINED
        last = number
        parts.append(f"L{x} {y}" if is_joined else f"M{x} {y}h0")
    return "".join(parts)


def _apart(ends: dict[str, float]) -> dict[str, float]:
    """Move names that would stand on each other upwards, the lowest line first."""
    placed: dict[str, float] = {}
    above = math.inf
    for name, y in sorted(ends.items(), key=lambda end: (-end[1], end[0])):
        above = placed[name] = min(y + 4, above - LABEL_HEIGHT)
    down = max(0.0, TOP - above)
    return {name: round(y + down, 1) for name, y in placed.items()}
