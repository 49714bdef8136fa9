"""Write constraints.txt: the versions of everything that our requirements need in their turn.

requirements*.txt say what we chose and why; this file makes an installation next year the same as today's.
"""

from __future__ import annotations

import re
import subprocess
import sys

from portal.local.environment import ROOT

HEADER = """\
# Versions of what requirements*.txt need in their turn, so that every installation is the same. Written by `make lock`.
"""


def main() -> None:
    chosen = {
        name
        for path in ROOT.glob("requirements*.txt")
        for name in re.findall(r"^([A-Za-z0-9._-]+).*==", path.read_text(), re.MULTILINE)
    }
    command = [sys.executable, "-m", "pip", "freeze", "--disable-pip-version-check"]
    frozen = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    ours = {plain(name) for name in chosen}
    needed = [line for line in frozen if plain(line.partition("==")[0]) not in ours]
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(needed) + "\n")


def plain(name: str) -> str:
    """Return the name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
