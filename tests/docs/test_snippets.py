"""Every command and snippet of the manual is run, in order, as a reader would.

Sybil finds the fences. What can't be run here says so above itself, `<!-- skip: next "why" -->`, and is counted below; the
blocks of formats and answers, which nobody runs, are counted as well: whoever adds one must say so here.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING
from unittest import SkipTest

import pytest
from django.test import override_settings
from sybil import Document, Region
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from tests.browser.conftest import serving
from tests.docs.world import World
from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sybil import Example

    from providers.sandbox.thread import SandboxThread

pytestmark = [pytest.mark.django_db(transaction=True)]

# A document, how many of its snippets say why they are not run, and how many of its blocks are only shown.
DOCUMENTS = {
    "docs/api.md": (0, 6),
    "docs/benchmarks.md": (0, 0),
    "docs/concepts.md": (0, 0),
    "docs/connect-js.md": (0, 2),
    "docs/monitoring.md": (0, 2),
    "docs/production.md": (4, 1),
    "docs/providers.md": (0, 2),
    "docs/quickstart.md": (1, 0),
    "docs/reliability.md": (0, 0),
    "docs/sandbox.md": (1, 2),
    "docs/threat-model.md": (0, 0),
    "docs/webhooks.md": (4, 2),
    "README.md": (2, 0),
    "examples/README.md": (1, 0),
}
RUN = {"sh", "python"}
# Shown for their form: answers, files of others, settings. HTML and JavaScript run in tests/browser/test_connect_js.py.
SHOWN = {"json", "toml", "yaml", "text", "html", "js", "javascript"}
# A fence under this has a name, by which another test runs it (tests/tokens/webhooks/test_docs.py).
NAMED = re.compile(r"<!-- snippet: [\w.-]+ -->\s*\Z")
COMMANDS = ("curl ", "python ", "export ", ".venv/bin/python ", "make ", "docker ", "cp ", "pg_", "psql ")
INDENTED = re.compile(r"(?<=\n\n)(?: {4}[^\n]*\n)+")


@pytest.fixture
def world(transactional_db: None, sandbox: SandboxThread, tmp_path: Path) -> Iterator[World]:
    with serving() as live, override_settings(ALLOWED_HOSTS=["localhost", "testserver"]):
        yield World(live, sandbox, tmp_path)


def parse(name: str, world: World) -> Document:
    """Find the fences, the indented blocks and the marks of a document."""

    def evaluate(example: Example) -> None:
        if NAMED.search(example.document.text, 0, example.region.start):
            raise SkipTest("run by its name")
        language, source = str(example.region.lexemes.get("arguments", "sh")), str(example.parsed)
        if language in RUN:
            getattr(world, {"sh": "shell"}.get(language, language))(source)

    def indented(document: Document) -> Iterable[Region]:
        in_fences = [range(region.start, region.end) for _, region in document.regions]
        for match in INDENTED.finditer(document.text):
            if any(match.start() in fence for fence in in_fences):
                continue
            source = re.sub(r"^ {4}", "", match[0], flags=re.MULTILINE)
            kind = "sh" if source.startswith(COMMANDS) else "text"
            yield Region(match.start(), match.end(), source, evaluate, lexemes={"arguments": kind})

    fences = [CodeBlockParser(language, evaluate) for language in sorted(RUN | SHOWN)]
    return Document.parse(str(ROOT / name), *fences, indented, SkipParser())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_snippets_run(name: str, world: World) -> None:
    counts: Counter[str] = Counter()
    if name == "README.md":
        world.connect_a_user()

    for example in parse(name, world):
        is_mark = "arguments" not in example.region.lexemes or "directive" in example.region.lexemes
        try:
            example.evaluate()
        except SkipTest:
            counts["skipped"] += 1
            continue
        except AssertionError as error:
            pytest.fail(f"{name}, line {example.line}: {error}")
        if not is_mark:
            counts["run" if example.region.lexemes["arguments"] in RUN else "shown"] += 1

    assert (counts["skipped"], counts["shown"]) == DOCUMENTS[name]
    languages = re.findall(r"^ *```(\S+)", (ROOT / name).read_text(), re.MULTILINE)
    assert set(languages) <= RUN | SHOWN
