"""The invariants I1 to I12 of the refresh engine, checked after every step of whatever Hypothesis comes up with.

What can happen is in tests/faults/machine.py, what must hold in tests/faults/invariants.py. Whatever breaks something is
printed as a program.
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import run_state_machine_as_test

from bench.faults import clock
from portal.models import Instance
from tests.faults.machine import Machine
from tokens import refresh

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread

pytestmark = [pytest.mark.slow, pytest.mark.django_db]

EXAMPLES = int(os.environ.get("INVARIANT_EXAMPLES", "12"))


def test_the_invariants_hold_after_every_step(
    sandbox: SandboxThread, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.INSTANCE_ID = "the-original"
    Instance.objects.update_or_create(id=1, defaults={"instance_id": "the-original"})
    clock.install_here()
    # Nobody moves while a reader waits for another one.
    monkeypatch.setattr(refresh, "PATIENCE", timedelta(0))

    run_state_machine_as_test(
        lambda: Machine(sandbox),
        settings=hypothesis_settings(
            max_examples=EXAMPLES,
            # The short form draws the same ones each time, so that it says of a change what it said before.
            derandomize="INVARIANT_EXAMPLES" not in os.environ,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
