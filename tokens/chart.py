"""The chart of refreshes: numbers computed here, drawn by templates/tokens/_refresh_chart.html as SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from providers.spec import Outcome
from tokens.spans import DAY, EPOCH, Counts, Span

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

# In the SVG's own units.
WIDTH, LEFT, TOP, FLOOR, SLOTS = 710, 34, 12, 112, 672
HEIGHT = FLOOR + 22
# Of the room that a bar has, what stays empty beside it.
GAP = 0.28
# How wide a label under the axis is.
TICK = 34


@dataclass(frozen=True)
class Bar:
    """One step of the span. Heights and tops are in SVG units; a part that counts at all can be seen."""

    starts_at: dt.datetime
    ends_at: dt.datetime
    ok: int
    failed: int
    x: float
    ok_top: float
    ok_height: float
    failed_top: float
    failed_height: float


@dataclass(frozen=True)
class Mark:
    """A label on an axis, and where it stands."""

    text: str
    x: float = 0
    y: float = 0


@dataclass(frozen=True)
class Chart:
    """What the template draws, and the sentence that says the same."""

    span: Span
    bars: list[Bar]
    hours: list[Mark]
    levels: list[Mark]
    ok: int
    failed: int
    sentence: str
    bar_width: float
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    floor: int = FLOOR
    label_y: int = FLOOR + 16

    @property
    def total(self) -> int:
        """Return how many attempts there were."""
        return self.ok + self.failed

    @property
    def busy_bars(self) -> list[Bar]:
        """Return the steps in which anything happened, newest first: the rows of the table."""
        return [bar for bar in reversed(self.bars) if bar.ok or bar.failed]


def pairs_of(counts: Counts) -> dict[dt.datetime, tuple[int, int]]:
    """Return (refreshed, failed) by the start of each step: what the chart draws."""
    return {
        step: (
            sum(one.count for one in slices if one.outcome == Outcome.OK),
            sum(one.count for one in slices if one.outcome != Outcome.OK),
        )
        for step, slices in counts.by_step.items()
    }


def draw(
    counts: Mapping[dt.datetime, tuple[int, int]],
    now: dt.datetime,
    span: Span = DAY,
    *,
    is_rate: bool = False,
    width: int = WIDTH,
) -> Chart:
    """Compute the chart of a span from (refreshed, failed) by the start of each step.

    is_rate: the axis says how many a minute, not how many a step. width: in SVG units, with a margin on the right.
    """
    starts = span.starts_of(now)
    pairs = [counts.get(start, (0, 0)) for start in starts]
    unit = span.minutes_a_step if is_rate else 1
    most = max((ok + failed for ok, failed in pairs), default=0)
    top = _round_up(most) if unit == 1 else _round_up_rate(most / unit) * unit
    room = SLOTS / span.count
    bars = [
        _bar(start, start + span.step, pair, top, LEFT + 4 + number * room)
        for number, (start, pair) in enumerate(zip(starts, pairs, strict=True))
    ]
    ok, failed = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    return Chart(
        span=span,
        bars=bars,
        hours=ticks(span, starts),
        levels=[Mark(_number(level / unit), y=_y(level, top)) for level in (top, top / 2)],
        ok=ok,
        failed=failed,
        sentence=_sentence(span, bars, ok, failed),
        bar_width=round(room * (1 - GAP), 1),
        width=width,
    )


def ticks(span: Span, starts: list[dt.datetime]) -> list[Mark]:
    """Return the labels under the axis of time, and where they stand."""
    room = SLOTS / span.count
    return [
        # One that stood at the very edge would be cut.
        Mark(f"{start:{span.tick_clock}}", x=round(LEFT + 4 + min(number * room, SLOTS - TICK), 1))
        for number, start in enumerate(starts)
        if not (start - EPOCH) % span.tick
    ]


def _bar(starts_at: dt.datetime, ends_at: dt.datetime, pair: tuple[int, int], top: float, x: float) -> Bar:
    ok, failed = pair
    ok_height = _height(ok, top)
    failed_height = _height(failed, top)
    # A small gap keeps the two parts apart for eyes that see no colour.
    failed_top = FLOOR - ok_height - (1.5 if ok else 0) - failed_height
    return Bar(
        starts_at=starts_at,
        ends_at=ends_at,
        ok=ok,
        failed=failed,
        x=round(x, 1),
        ok_top=round(FLOOR - ok_height, 1),
        ok_height=round(ok_height, 1),
        failed_top=round(failed_top, 1),
        failed_height=round(failed_height, 1),
    )


def _height(count: int, top: float) -> float:
    return max(2.0, count / top * (FLOOR - TOP)) if count else 0.0


def _y(level: float, top: float) -> float:
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


def _round_up_rate(rate: float) -> float:
    """Do the same for a number that need not be whole."""
    size = 0.01
    while True:
        for step in (1, 2, 4, 6, 8):
            if step * size >= rate:
                return step * size
        size *= 10


def _number(number: float) -> str:
    for size, sign in ((1_000_000, "M"), (1_000, "k")):
        if number >= 10 * size or (number >= size and size > 1_000):
            return f"{number / size:g}{sign}"
    return f"{number:,.0f}" if number >= 10 else f"{number:g}"


def _sentence(span: Span, bars: list[Bar], ok: int, failed: int) -> str:
    if not ok and not failed:
        return f"No refreshes in {span.words}."
    said = (
        f"{ok + failed:,} {'refresh' if ok + failed == 1 else 'refreshes'} in {span.words}, {span.step_words}"
    )
    if not failed:
        return said + "; none failed."
    bad = [bar for bar in bars if bar.failed]
    return (
        said
        + f"; {failed:,} failed, between {bad[0].starts_at:{span.clock}} and {bad[-1].ends_at:{span.clock}} UTC."
    )
