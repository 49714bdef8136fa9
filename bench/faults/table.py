"""The table that a run ends with, and its last line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.faults.world import Cell

HEAD = ("fault", "at", "grants", "lost", "spent twice", "in flight", "recovered after")


def print_table(cells: Sequence[Cell], *, seconds: float) -> int:
    """Print it, and return the exit code: 1 if anything was lost or spent twice that need not be."""
    rows = [HEAD, tuple("-" * 3 for _ in HEAD), *(_row(cell) for cell in cells)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    print()
    for row in rows:
        print("| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |")
    for cell in cells:
        for words in dict.fromkeys(cell.problems + cell.causes):
            print(f"  {cell.fault}, {cell.at}: {words}")
    lost = sum(cell.lost for cell in cells if not cell.may_lose)
    double = sum(cell.double for cell in cells)
    stuck = sum(bool(cell.problems or cell.in_flight) for cell in cells)
    print(f"{seconds:.0f} s")
    print(f"faults cells={len(cells)} lost={lost} double={double}", flush=True)
    return 1 if lost or double or stuck else 0


def _row(cell: Cell) -> tuple[str, ...]:
    recovered = "nothing was sent" if cell.is_hopeless else "never"
    if cell.recovered is not None:
        recovered = f"{cell.recovered:.0f} s"
    return (
        cell.fault,
        cell.at,
        str(len(cell.grants)),
        str(cell.lost),
        str(cell.double),
        str(cell.in_flight),
        recovered,
    )
