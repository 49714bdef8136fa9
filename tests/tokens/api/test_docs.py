"""docs/api.md against what is there."""

from __future__ import annotations

import re
from pathlib import Path

from portal.models.api_keys import KeyPermission
from tokens.api.openapi import operations
from tokens.api.problems import all_errors

MANUAL = (Path(__file__).parents[3] / "docs" / "api.md").read_text()


def test_the_manual_lists_every_error_with_its_status():
    listed = {
        code: int(status) for code, status in re.findall(r"^\| `(\w+)` \| (\d{3}) \|", MANUAL, re.MULTILINE)
    }

    assert listed == {code: error.status for code, error in all_errors().items()}


def test_the_manual_names_every_permission_and_field():
    for word in {*KeyPermission.values} | {name for _, _, _, it in operations() for name in it.takes or {}}:
        assert word in MANUAL


def test_the_manual_and_the_document_know_the_same_operations():
    rows = re.findall(r"^\| `([A-Z]+) ([a-z_/{}-]+)[^`]*` \| `([a-z:]+)`", MANUAL, re.MULTILINE)

    # What is passed on has one row, whatever the method.
    assert {(method, f"/{path}", permission) for method, path, permission in rows} == {
        ("ANY" if operation.takes is None else method, path, operation.permission.value)
        for path, _, method, operation in operations()
    }


def test_the_manual_shows_every_operation_at_work():
    """Each has an example with curl, after the table."""
    shown = re.sub(r"\$(GRANT|SESSION)", "{id}", MANUAL)
    shown = shown.replace("acme/jira/rest/api/3/project/search", "{site}/{product}/{path}")

    for path, _, method, operation in operations():
        method = "GET" if operation.takes is None else method
        verb = "" if method == "GET" else rf"-X {method} "
        assert re.search(rf'curl {verb}"\$PORTAL{re.escape(path)}["?]', shown), f"{method} {path}"
