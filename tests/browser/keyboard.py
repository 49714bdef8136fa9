"""Go about a page by keyboard alone, and see on the way where one is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

# What has the focus, in words; whether it shows that; and whether it lies in sight with nothing upon it.
FOCUSED = """() => {
    const focused = document.activeElement
    const label = focused.closest("label") ?? document.querySelector(`label[for="${focused.id}"]`)
    const shown = [focused, label].some(one => one && getComputedStyle(one).outlineStyle !== "none")
    const {left, top, width, height} = focused.getBoundingClientRect()
    const seen = document.elementFromPoint(left + width / 2, top + height / 2)
    const words = `${focused.ariaLabel ?? ""} ${(label ?? focused).innerText}`.trim()
    return [words, shown, focused === document.body || [focused, label].some(one => one?.contains(seen))]
}"""


def tab_to(page: Page, text: str, *, key: str = "Tab") -> None:
    """Press Tab until what has this text, or is labelled by it, has the focus; each stop on the way must show it."""
    for _ in range(60):
        page.keyboard.press(key)
        words, is_shown, is_seen = page.evaluate(FOCUSED)
        assert is_seen, f"{words!r} has the focus out of sight"
        if text in words:
            assert is_shown, f"{words!r} does not show that it has the focus"
            return
    raise AssertionError(f"{key} never came to {text!r}")


def press(page: Page, text: str, *, key: str = "Enter") -> None:
    """Go to what has this text by Tab, and press it."""
    tab_to(page, text)
    page.keyboard.press(key)


def type_into(page: Page, label: str, text: str) -> None:
    """Go to the field with this label by Tab, and put a text in place of what it holds."""
    tab_to(page, label)
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text(text)
