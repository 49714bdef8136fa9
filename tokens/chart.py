"""The chart of refreshes: numbers computed here, drawn by templates/tokens/_refresh_chart.html as SVG."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

STEP = dt.timedelta(minutes=30)
BARS = 48
# In the SVG's own units.
WIDTH, LEFT, TOP, FLOOR, BAR, GAP = 710, 34, 12, 112, 10, 4
HEIGHT = FLOOR + 22


@dataclass(frozen=True)
class Bar:
    """One half hour. Heights and tops are in SVG units; a part that counts at all can be seen."""

    starts_at: dt.datetime
    ok: int
    failed: int
    x: float
    ok_top: float
    ok_height: float
    failed_top: float
    failed_height: float

    @property
    def ends_at(self) -> dt.datetime:
        """Return when its half hour is over."""
        return self.starts_at + STEP


@dataclass(frozen=True)
class Mark:
    """A label on an axis, and where it stands."""

    text: str
    x: float = 0
    y: float = 0


@dataclass(frozen=True)
class Chart:
    """What the template draws, and the sentence that says the same."""

    bars: list[Bar]
    hours: list[Mark]
    levels: list[Mark]
    ok: int
    failed: int
    sentence: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    floor: int = FLOOR
    label_y: int = FLOOR + 16
    bar_width: int = BAR

    @property
    def total(self) -> int:
        """Return how many attempts there were."""
        return self.ok + self.failed

    @property
    def busy_bars(self) -> list[Bar]:
        """Return the half hours in which anything happened, newest first: the rows of the table."""
        return [bar for bar in reversed(self.bars) if bar.ok or bar.failed]


def starts_of(now: dt.datetime) -> list[dt.datetime]:
    """Return when each of the 48 half hours up to `now` began; the last one is still running."""
    last = now.astimezone(dt.UTC).replace(minute=now.minute // 30 * 30, second=0, microsecond=0)
    return [last - STEP * number for number in reversed(range(BARS))]


def draw(counts: Mapping[dt.datetime, tuple[int, int]], now: dt.datetime) -> Chart:
    """Compute the chart of the last 24 hours from (refreshed, failed) by the start of each half hour."""
    starts = starts_of(now)
    pairs = [counts.get(start, (0, 0)) for start in starts]
    top = _round_up(max((ok + failed for ok, failed in pairs), default=0))
    bars = [
        _bar(number, start, pair, top) for number, (start, pair) in enumerate(zip(starts, pairs, strict=True))
    ]
    ok, failed = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    return Chart(
        bars=bars,
        hours=[
            Mark(f"{bar.starts_at:%H:%M}", x=bar.x)
            for bar in bars
            if bar.starts_at.minute == 0 and bar.starts_at.hour % 6 == 0
        ],
        levels=[Mark(f"{level:,}", y=_y(level, top)) for level in ([top, top // 2] if top > 1 else [top])],
        ok=ok,
        failed=failed,
        sentence=_sentence(bars, ok, failed),
    )


def _bar(number: int, start: dt.datetime, pair: tuple[int, int], top: int) -> Bar:
    ok, failed = pair
    ok_height = _height(ok, top)
    failed_height = _height(failed, top)
    # A small gap keeps the two parts apart for eyes that see no colour.
    failed_top = FLOOR - ok_height - (1.5 if ok else 0) - failed_height
    return Bar(
        starts_at=start,
        ok=ok,
        failed=failed,
        x=round(LEFT + 4 + number * (BAR + GAP), 1),
        ok_top=round(FLOOR - ok_height, 1),
        ok_height=round(ok_height, 1),
        failed_top=round(failed_top, 1),
        failed_height=round(failed_height, 1),
    )


def _height(count: int, top: int) -> float:
    return max(2.0, count / top * (FLOOR - TOP)) if count else 0.0


def _y(level: int, top: int) -> float:
    return round(FLOOR - level / top * (FLOOR - TOP) + 4, 1)


def _round_up(most: int) -> int:
    """Return the next number that reads well on an axis, and halves well."""
    if most <= 8:
        return max(2, most + most % 2)
    size = 1
    while True:
        for step in (10, 12, 16, 20, 24, 30, 40, 60, 80):
            if step * size >= most:
                return step * size
        size *= 10


def _sentence(bars: list[Bar], ok: int, failed: int) -> str:
    if not ok and not failed:
        return "No refreshes in the last 24 hours."
    said = (
        f"{ok + failed:,} {'refresh' if ok + failed == 1 else 'refreshes'} in the last 24 hours, by half hour"
    )
    if not failed:
        return said + "; none failed."
    bad = [bar for bar in bars if bar.failed]
    return said + f"; {failed:,} failed, between {bad[0].starts_at:%H:%M} and {bad[-1].ends_at:%H:%M} UTC."
