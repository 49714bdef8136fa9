"""Which cells a run has, in which order."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

from bench.faults import at_moments, at_once, at_the_provider, blind
from bench.faults.at_moments import BROKER, DATABASE, KILL, MOMENTS, STOP
from bench.faults.recovery import Patience

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

    from bench.faults.stage import Stage
    from bench.faults.world import Cell

BEFORE, CLAIMED, SENT, COMMITTED, READ, STORED = MOMENTS
# The short form: every fault where it can do most harm.
SHORT = {
    KILL: [BEFORE, CLAIMED, SENT, COMMITTED, READ, STORED],
    STOP: [SENT, COMMITTED, READ],
    DATABASE: [READ],
    BROKER: [COMMITTED],
    "database clock + 1 h": [COMMITTED],
    "database clock - 1 h": [COMMITTED],
}
# Faults of our own machines that a provider without a leeway makes worse.
STRICT = [KILL, STOP, DATABASE]


class Plan:
    """The cells of one run, in order; `only` keeps those whose words hold it."""

    def __init__(self, stage: Stage, options: argparse.Namespace) -> None:
        self.stage, self.options = stage, options
        self.patience = Patience(stage)
        self.cells: list[Cell] = []

    def run(self) -> list[Cell]:
        """Run all cells of the form that was asked for."""
        short, seed = self.options.short, self.options.seed
        patience, few = self.patience, 3 if short else 10
        self.stage.begin()
        wanted = SHORT if short else {fault: list(MOMENTS) for fault in at_moments.FAULTS}
        for fault, places in wanted.items():
            for at in places:
                run_it = functools.partial(at_moments.run_at, patience, fault, at, grants=few)
                self._do(f"{fault}, {at}", lambda run_it=run_it: [run_it()])
        self._do(
            "provider",
            lambda: at_the_provider.run_all(patience, grants=few, times=1 if short else 2, storm=few * 10),
        )
        self._do("unreachable", lambda: at_the_provider.run_unreachable(patience, grants=few))
        if not short:
            self._do("burst", lambda: [at_the_provider.run_burst(patience, grants=few * 4)])
        self._do("beats", lambda: at_once.run_beats_and_deliveries(patience, grants=few * 10))
        if not short:
            self._do("impostors", lambda: at_once.run_impostors(patience, grants=few))
        self._do("readers", self._readers)
        seconds = 4 if short else 120
        self._do("blind", lambda: [blind.run_blind(patience, grants=few * 10, seconds=seconds, seed=seed)])
        return self.cells

    def _readers(self) -> Iterable[Cell]:
        address = self.stage.web()
        cells = at_once.run_readers(self.patience, address)
        if not self.options.short:
            cells += at_once.run_killed_readers(self.patience, address)
        return cells

    def _do(self, words: str, make: Callable[[], Iterable[Cell]]) -> None:
        if self.options.only not in words:
            return
        began = time.monotonic()
        for cell in make():
            self.cells.append(cell)
            print(f"  {cell.fault}, {cell.at}: lost={cell.lost} double={cell.double} {cell.problems or ''}")
        print(f"{words}: {time.monotonic() - began:.1f} s", flush=True)
