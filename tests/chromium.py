"""Find a Chromium for the browser tests, or install one, and print its path.

    CHROMIUM="$(python -m tests.chromium)"

Prints nothing but a loud notice when none can be had: then browser tests are skipped, but with CI=true that is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# The first is Chromium without its windows: what the tests do takes half the work there.
NAMES = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
)
MAC_APPS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
INSTALL_TIMEOUT_S = 600


def installed() -> str:
    """Return the path of a Chromium that starts, or an empty string."""
    return next((path for path in candidates() if path and starts(path)), "")


def candidates() -> Iterator[str]:
    """Yield where a Chromium may be; asking Playwright takes longest, so it comes last."""
    yield os.environ.get("CHROMIUM", "")
    yield from (shutil.which(name) or "" for name in NAMES)
    yield from (path for path in MAC_APPS if Path(path).exists())
    yield playwrights_own()


def starts(path: str) -> bool:
    """Say whether this is a browser that starts; if not, the reason goes to standard error."""
    try:
        done = subprocess.run(
            [path, "--version"], check=False, capture_output=True, text=True, errors="replace", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"{path} does not start: {error}")
        return False
    if done.returncode:
        say(f"{path} does not start: code {done.returncode}, {done.stderr.strip() or 'without a word'}")
    return done.returncode == 0


def playwrights_own() -> str:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else ""


def install() -> None:
    """Install Debian's package as root, else Playwright's build; say so on standard error."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say("Installing Chromium with apt-get for the browser tests ...")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if run(["apt-get", "update", "-qq"], env):
            install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
            # Older systems have only the whole browser.
            run([*install, "chromium-headless-shell"], env) or run([*install, "chromium"], env)
    else:
        say("Installing Playwright's Chromium for the browser tests ...")
        run([sys.executable, "-m", "playwright", "install", "chromium"], dict(os.environ))


def run(command: list[str], env: dict[str, str]) -> bool:
    try:
        done = subprocess.run(
            command,
            check=False,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            timeout=INSTALL_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"{command[0]} failed: {type(error).__name__}")
        return False
    return done.returncode == 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    path = installed()
    if not path:
        install()
        path = installed()
    if path:
        print(path)
        return 0
    if os.environ.get("CI", "").lower() in {"true", "1"}:
        say(
            "No Chromium was found, and none could be installed. With CI=true the browser tests must run: install chromium."
        )
        return 1
    say(
        "\n!!! No Chromium was found, and none could be installed: THE BROWSER TESTS ARE SKIPPED.\n"
        "!!! Install Chromium or Chrome, or set CHROMIUM=/path/to/it.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
