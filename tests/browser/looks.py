"""Look at a page: accessibility, errors, weight, width; and pictures, for people.

    LOOKS_DIR=looks make test ARGS="-k audit_log"

writes the pictures there: each page wide, narrow and dark. Without it a page is pictured when something is wrong with it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from axe_core_python.sync_playwright import Axe

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page

WANTS_PICTURES = "LOOKS_DIR" in os.environ
FOLDER = Path(os.environ.get("LOOKS_DIR") or Path(__file__).parents[2] / ".data" / "looks")
WIDE, NARROW = (1280, 860), (390, 844)
KINDS: dict[str, tuple[tuple[int, int], Literal["light", "dark"]]] = {
    "wide": (WIDE, "light"),
    "narrow": (NARROW, "light"),
    "dark": (WIDE, "dark"),
}
# Everything that axe finds is much to send. preload: the style sheets again, for a rule that is off.
VIOLATIONS = """async options => {
    const found = await axe.run({resultTypes: ["violations"], preload: false, ...options})
    return found.violations.map(({id, help, nodes}) => [id, help, nodes.map(node => node.target)])
}"""
# What axe is asked to look for.
RULES: dict[str, dict[str, Any]] = {
    "narrow": {},
    "dark": {"runOnly": ["color-contrast"]},
}
# What one visit may cost, all files as sent (compressed), in bytes.
HEAVIEST = 100_000
WEIGHT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
    .reduce((sum, entry) => sum + entry.encodedBodySize, 0)"""
# Whatever sticks out of the window without a region of its own to scroll in.
OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"

# The admin's colours fade from one scheme to the other; what does not end by itself is taken away.
END_ANIMATIONS = """() => document.getAnimations().forEach(animation => {
    try { animation.finish() } catch { animation.cancel() }
})"""
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
    """Look at the page as it stands, wide, narrow and dark, and fail on whatever is wrong with it.

    heaviest: in bytes, all files as sent.
    """
    # A click may have begun a navigation: the page to look at is whole when it leads there.
    page.wait_for_load_state()
    page.wait_for_function(LOADED)
    problems: list[str] = []
    # Of dark and light only the colours differ, and dark is wide: a turn to wide and light would find nothing more.
    for kind, rules in RULES.items():
        _turn(page, kind)
        problems += [f"{kind}: {problem}" for problem in _accessibility(page, rules)]
        overflow = page.evaluate(OVERFLOW)
        if overflow > 0:
            problems.append(f"{kind}: {overflow} pixels wider than the window")
    weight = page.evaluate(WEIGHT)
    if weight > heaviest:
        problems.append(f"{weight} bytes, more than {heaviest}")
    problems += errors_of(page)
    if problems or WANTS_PICTURES:
        _take_pictures(page, name)
    assert not problems, f"{name} ({page.url}), pictures in {FOLDER}:\n" + "\n".join(problems)


def _turn(page: Page, kind: str) -> None:
    """Give the page the window and the colours that somebody has who looks at it so."""
    (width, height), scheme = KINDS[kind]
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.evaluate(END_ANIMATIONS)


def _take_pictures(page: Page, name: str) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for kind, ((width, _), _) in KINDS.items():
        _turn(page, kind)
        page.screenshot(
            path=FOLDER / f"{name}-{kind}.png",
            full_page=True,
            clip={"x": 0, "y": 0, "width": width, "height": min(page.evaluate(HEIGHT), TALLEST)},
            animations="disabled",
        )


def weight_of(page: Page) -> int:
    """Return what the page and its files weigh as sent, in bytes."""
    return int(page.evaluate(WEIGHT))


def _accessibility(page: Page, options: dict[str, Any]) -> list[str]:
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(_axe.axe_script)
    found = page.evaluate(VIOLATIONS, options)
    return [f"{rule}: {text} at {places[:5]}" for rule, text, places in found]
