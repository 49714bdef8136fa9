"""The manual holds together: links lead somewhere, and what the threat model names is tested."""

from __future__ import annotations

import re

from tests.docs.test_snippets import DOCUMENTS
from tests.processes import ROOT

PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
ID = re.compile(r"\b([A-H]\d+)(?:–([A-H]\d+))?\b")


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to headings."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_link_leads_somewhere() -> None:
    lost = []
    for page in PAGES:
        for link in LINK.findall(page.read_text()):
            if link.startswith(("http://", "https://", "mailto:")):
                continue
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
                lost.append(f"{page.relative_to(ROOT)}: {link}")

    assert lost == []


def test_every_page_is_in_the_index_and_its_snippets_are_run() -> None:
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}

    assert pages == set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "README.md").read_text()))
    assert {f"docs/{name}" for name in pages} <= set(DOCUMENTS)


def test_what_the_threat_model_claims_has_a_test_of_its_name() -> None:
    claimed = set()
    for first, last in ID.findall((ROOT / "docs" / "threat-model.md").read_text()):
        numbers = range(int(first[1:]), int((last or first)[1:]) + 1)
        claimed |= {f"{first[0].lower()}{number}" for number in numbers}
    names = " ".join(re.findall(r"^ *def (test_\w+)", _all_tests(), re.MULTILINE)) + " "

    assert [each for each in sorted(claimed) if not re.search(rf"_{each}(_|\s)", names)] == []


def _all_tests() -> str:
    return "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
