"""What the terminal shows while something takes its time."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 44


@contextmanager
def step(label: str) -> Iterator[None]:
    """Show the label, and behind it how long the block took once it is done."""
    start = time.monotonic()
    print(f"  {label} ".ljust(WIDTH, "."), end=" ", flush=True)
    try:
        yield
    except BaseException:
        print("stopped", flush=True)
        raise
    print(f"{time.monotonic() - start:4.1f} s", flush=True)


def box(lines: list[str]) -> str:
    """Draw a frame around the lines."""
    width = max(map(len, lines))
    rule = "+" + "-" * (width + 4) + "+"
    return "\n".join([rule, *(f"|  {line.ljust(width)}  |" for line in lines), rule])
