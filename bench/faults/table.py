"""The tables that a run ends with, and its last line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.faults.world import Cell

HEAD = ("fault", "at", "grants", "lost", "spent twice", "in flight", "recovered after")


def print_tables(cells: Sequence[Cell], *, secrets: Sequence[str], seconds: float) -> int:
    """Print them, and return the exit code: 1 if anything was lost or spent twice that need not be."""
    strict = [cell for cell in cells if cell.is_strict]
    lenient = [cell for cell in cells if not cell.is_strict]
    _print_table("A provider with a leeway of ten minutes, as Atlassian:", lenient)
    _print_table("A provider without a leeway:", strict)
    lost, double = sum(cell.lost for cell in lenient), sum(cell.double for cell in lenient)
    avoidable = sum(cell.lost for cell in strict if not cell.may_lose)
    if strict:
        helpless = sum(cell.lost for cell in strict) - avoidable
        print(f"without a leeway: lost={helpless} where no client can help, and {avoidable} elsewhere")
    print(f"secrets in logs, journal or broker: {', '.join(secrets) or 'none'}")
    print(f"{seconds:.0f} s")
    print(f"faults cells={len(cells)} lost={lost} double={double}", flush=True)
    problems = any(cell.problems or (cell.in_flight and not cell.may_lose) for cell in cells)
    return 1 if lost or double or avoidable or problems or secrets else 0


def _print_table(title: str, cells: Sequence[Cell]) -> None:
    if not cells:
        return
    rows = [HEAD, tuple("-" * 3 for _ in HEAD), *(_row(cell) for cell in cells)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    print(f"\n{title}\n")
    for row in rows:
        print("| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |")
    print()
    for cell in cells:
        for words in dict.fromkeys(cell.problems + cell.causes):
            print(f"- {cell.fault}, {cell.at}: {words}")


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
