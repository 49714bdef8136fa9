"""E1, generated: whatever path is made up, it is refused or stays below the base URL, however often somebody decodes it."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from hypothesis import example, given, settings
from hypothesis import strategies as some
from yarl import URL

from providers.catalog_loader import catalog
from tokens.proxy_path import is_honest, target_at

# What the web server makes of a path is decoded once: all of these can be in it.
PIECES = some.sampled_from(
    [
        *(
            "..",
            ".",
            "/",
            "//",
            "%2F",
            "%2f",
            "%",
            "2F",
            "2f",
            "25",
            "%25",
            "%2e",
            "2e",
            "%5C",
            "\\",
            ";",
            " ",
        ),
        *(
            "@",
            ":",
            "?",
            "#",
            "\x00",
            "\t",
            "\n",
            "\x7f",
            "a",
            "b1",
            "é",
            "\u2024",
            "\uff0f",
            "https:",
            "~",
            "+",
        ),
    ]
)
PATHS = some.lists(PIECES, max_size=9).map("".join)
BASE = "https://api.atlassian.com/ex/jira/cloud-1"


def fully_decoded(path: str) -> str:
    while (decoded := unquote(path)) != path:
        path = decoded
    return path


@given(PATHS)
@settings(max_examples=1500, deadline=None, database=None, derandomize=True)
@example("a%2F..%2Fb")
@example("%2%2F..")
@example("%%2F2e%2F")
@example("..%2F")
@example("a/ ../b")
def test_e1_a_path_stays_below_the_base_url_however_often_it_is_decoded(path: str) -> None:
    if not is_honest(path, ""):
        return
    target = target_at(catalog()["atlassian"], "Jira", cloud_id="cloud-1", path=path, query="")
    parts, rest = urlsplit(target.url), target.url.removeprefix(BASE)

    assert (target.base_url, parts.scheme, parts.netloc) == (BASE, "https", "api.atlassian.com")
    assert (parts.query, parts.fragment) == ("", "")
    assert rest.startswith("/")
    # What is sent is this, to the letter: plain ASCII, each slash as it was written.
    assert URL(target.url, encoded=True).raw_path == parts.path
    assert re.fullmatch(r"[!-~]*", target.url)
    assert re.findall("%2[Ff]", rest) == re.findall("%2[Ff]", path)
    for seen in (rest, unquote(rest), fully_decoded(rest)):
        assert not re.search(r"[\\\x00-\x1f\x7f]|//", seen)
        for segment in seen[1:].split("/"):
            assert segment.partition(";")[0].strip() not in {".", ".."}


def test_e1_the_generated_paths_are_of_both_kinds() -> None:
    """Else the test above would prove little."""
    honest = ["a%2Fb", "a b", "é/b1", "%", "a;b", "a%2f%2", "2F/25"]

    assert [path for path in honest if not is_honest(path, "")] == []
    assert not any(is_honest(path, "") for path in ("a%2F/b", "%252F", "..%2Fa", "a%2F..", " /a", "%2Fa"))
