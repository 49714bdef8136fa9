"""Start examples/jira_issues beside a running `make run`.

python -m portal.local.example
"""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.error import URLError
from urllib.request import urlopen

from portal.local.environment import HOST, ROOT, read_place
from portal.local.errors import LocalError
from portal.local.ready import why_not


def main() -> int:  # noqa: RET503 - execve does not return.
    try:
        portal = os.environ.get("PUBLIC_URL") or read_place(os.environ).portal_url
        port = _port(os.environ.get("EXAMPLE_PORT") or "8002")
        _require_portal(portal)
        given = _given(origin=f"http://{HOST}:{port}")
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1
    env = {**os.environ, "PORTAL": portal, **given, "PORT": port}
    # In its place, so that Ctrl-C and signals reach it alone.
    os.execve(sys.executable, [sys.executable, str(ROOT / "examples/jira_issues/app.py")], env)


def _port(value: str) -> str:
    if not value.isdecimal() or not 1 <= int(value) <= 65535:
        raise LocalError(f"EXAMPLE_PORT={value} is not a port. Give a number from 1 to 65535.")
    if reason := why_not(int(value)):
        raise LocalError(f"Port {value} {reason}. Choose another: EXAMPLE_PORT=8012 make example")
    return value


def _require_portal(url: str) -> None:
    try:
        with urlopen(f"{url}/healthz", timeout=5):  # noqa: S310 - Our own address on this machine.
            pass
    except (URLError, OSError):
        raise LocalError(
            f"No portal answers at {url}. Start it first with `make run`, in another terminal and with the same PORT."
        ) from None


def _given(*, origin: str) -> dict[str, str]:
    """Make what the example needs, and return what it is told of it: its API key, and which connect.js to load."""
    command = [sys.executable, "-m", "portal.local.manage", "seed_example", "--origin", origin]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise LocalError("The example could not be set up; the reason is above.")
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


if __name__ == "__main__":
    sys.exit(main())
