"""The fault bench: whatever is killed, stopped, cut off or answered with nonsense, no grant is lost or spent twice.

    python -m bench.faults [--short] [--seed N] [--only WORD]

Real processes and real faults; the judge is the provider's own ledger and its word on each stored token. Ends with a
table and one line, and with exit code 1 if anything was lost or spent twice. docs/reliability.md tells more.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true", help="the form that is part of the tests")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1_000_000), help="repeats a run's chances"
    )
    parser.add_argument("--only", default="", help="only cells whose fault or moment holds this word")
    options = parser.parse_args()
    print(f"machine: {platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"settings: {vars(options)}", flush=True)
    os.umask(0o077)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        return _run(Path(folder), options)


def _run(folder: Path, options: argparse.Namespace) -> int:
    from bench.faults.stage import Stage

    began = time.monotonic()
    stage = Stage(folder)
    try:
        stage.open()
        _set_up()
        from bench.faults.leaks import find_secrets
        from bench.faults.plan import Plan
        from bench.faults.table import print_tables

        cells = Plan(stage, options).run()
        secrets = find_secrets(stage)
    finally:
        stage.close()
    return print_tables(cells, secrets=secrets, seconds=time.monotonic() - began)


def _set_up() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from bench.faults import clock
    from portal.start_up import require_sound_start

    clock.install()
    require_sound_start()


if __name__ == "__main__":
    sys.exit(main())
