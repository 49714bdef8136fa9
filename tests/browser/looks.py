"""Look at a page: pictures, accessibility, errors, weight, width.

The pictures are for people; the rest fails the test.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from axe_core_python.sync_playwright import Axe

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page

FOLDER = Path(os.environ.get("LOOKS_DIR") or Path(__file__).parents[2] / ".data" / "looks")
WIDE, NARROW = (1280, 860), (390, 844)
# What one visit may cost, all files as sent (compressed), in bytes.
HEAVIEST = 100_000
WEIGHT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .reduce((sum, entry) => sum + entry.encodedBodySize, 0)"""
# Whatever sticks out of the window without a region of its own to scroll in.
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"

LOADED = "() => document.documentElement !== null && document.readyState === 'complete'"
HEIGHT = "() => document.documentElement.scrollHeight"
# In pixels: a long list looks the same further down, and its picture takes a second.
TALLEST = 2500

_axe = Axe()
_errors: WeakKeyDictionary[Page, list[str]] = WeakKeyDictionary()


def watch(page: Page) -> None:
    """Remember what the page complains about, policy violations included."""
    errors = _errors[page] = []

    def hear(message: ConsoleMessage) -> None:
        # A page with a 4xx status is an error in the console too; the test that went there knows.
        is_status = "the server responded with a status of" in message.text
        if message.type in {"error", "warning"} and not (is_status and message.location["url"] == page.url):
            errors.append(f"{message.text} ({page.url})")

    page.on("console", hear)
    page.on("pageerror", lambda error: errors.append(f"{error} ({page.url})"))


def errors_of(page: Page) -> list[str]:
    """Return what the page complained about since it was opened."""
    return _errors[page]


def look(page: Page, name: str, *, heaviest: int = HEAVIEST) -> None:
    """Save the page as it stands, wide, narrow and dark, and fail on whatever is wrong with it.

    heaviest: in bytes, all files as sent.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    # A click may have begun a navigation: the page to look at is whole when it leads there.
    page.wait_for_load_state()
    page.wait_for_function(LOADED)
    problems: list[str] = []
    for kind, (width, height), scheme in (
        ("wide", WIDE, "light"),
        ("narrow", NARROW, "light"),
        ("dark", WIDE, "dark"),
    ):
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light", reduced_motion="reduce")
        page.screenshot(
            path=FOLDER / f"{name}-{kind}.png",
            full_page=True,
            clip={"x": 0, "y": 0, "width": width, "height": min(page.evaluate(HEIGHT), TALLEST)},
            animations="disabled",
        )
        # Both widths and both schemes in two runs: a run takes longer than all the rest.
        if (kind, scheme) != ("wide", "light"):
            problems += [f"{kind}: {problem}" for problem in _accessibility(page)]
        overflow = page.evaluate(OVERFLOW)
        if overflow > 0:
            problems.append(f"{kind}: {overflow} pixels wider than the window")
    page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    page.emulate_media(color_scheme="light")
    weight = page.evaluate(WEIGHT)
    if weight > heaviest:
        problems.append(f"{weight} bytes, more than {heaviest}")
    problems += errors_of(page)
    assert not problems, f"{name} ({page.url}):\n" + "\n".join(problems)


def weight_of(page: Page) -> int:
    """Return what the page and its files weigh as sent, in bytes."""
    return int(page.evaluate(WEIGHT))


def _accessibility(page: Page) -> list[str]:
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(_axe.axe_script)
    violations = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
    return [
        f"{violation['id']}: {violation['help']} at {[node['target'] for node in violation['nodes']][:5]}"
        for violation in violations
    ]
