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
        self._moments(SHORT if short else {fault: list(MOMENTS) for fault in at_moments.FAULTS}, grants=few)
        times = 1 if short else 2
        self._do(
            "provider", lambda: at_the_provider.run_all(patience, grants=few, times=times, storm=few * 10)
        )
        self._do("unreachable", lambda: at_the_provider.run_unreachable(patience, grants=few))
        self._do("burst", lambda: [at_the_provider.run_burst(patience, grants=40)])
        self._do("beats", lambda: at_once.run_beats_and_deliveries(patience, grants=few * 10))
        self._do("slow beat", lambda: [at_once.run_slow_beat(patience, grants=few)])
        self._do("readers", self._readers)
        if not short:
            self._do("impostors", lambda: at_once.run_impostors(patience, grants=few))
        seconds = 4 if short else 120
        self._do("blind", lambda: [blind.run_blind(patience, grants=few * 10, seconds=seconds, seed=seed)])
        if not short:
            self._strict()
        return self.cells

    def _moments(self, wanted: dict[str, list[str]], *, grants: int, provider: str = "quick") -> None:
        for fault, places in wanted.items():
            for at in places:
                run_it = functools.partial(
                    at_moments.run_at, self.patience, fault, at, grants=grants, provider=provider
                )
                self._do(f"{provider}: {fault}, {at}", lambda run_it=run_it: [run_it()])

    def _strict(self) -> None:
        """Run the short matrix against a provider that takes every second use of a token for theft."""
        self.stage.sandbox.set(strict=True)
        self._moments(SHORT, grants=3, provider="strict")
        self._do(
            "strict provider",
            lambda: at_the_provider.run_all(self.patience, grants=3, times=1, storm=30, provider="strict"),
        )
        self.stage.sandbox.set(strict=False)

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
