"""`make example`: what it says when it cannot start. tests/browser/test_example.py walks it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command

from portal.local.environment import ROOT
from tests.portal.test_up import free_ports

if TYPE_CHECKING:
    from pathlib import Path


def start(folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "DATA_DIR": str(folder), "PORT": str(free_ports(1)[0]), **more}
    command = [sys.executable, "-m", "portal.local.example"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=30, check=False)


def test_without_a_portal_it_says_how_to_start_one(tmp_path: Path) -> None:
    done = start(tmp_path)

    assert done.returncode == 1
    assert "Start it first with `make run`" in done.stderr


def test_a_port_that_is_none_is_named(tmp_path: Path) -> None:
    done = start(tmp_path, EXAMPLE_PORT="http")

    assert done.returncode == 1
    assert "EXAMPLE_PORT=http is not a port" in done.stderr


@pytest.mark.django_db
def test_its_seed_is_for_the_demo_alone_g8(settings: Any) -> None:
    settings.DEMO, settings.SANDBOX_URL = False, "http://127.0.0.1:8001"

    with pytest.raises(CommandError, match="DEMO"):
        call_command("seed_example", origin="http://127.0.0.1:8002")
