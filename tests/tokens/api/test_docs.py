"""docs/api.md against what is there."""

from __future__ import annotations

import re
from pathlib import Path

from portal.models.api_keys import KeyPermission
from tokens.api.problems import all_errors
from tokens.api.urls import LIST_FIELDS, SESSION_FIELDS, TOKEN_FIELDS

MANUAL = (Path(__file__).parents[3] / "docs" / "api.md").read_text()


def test_the_manual_lists_every_error_with_its_status():
    listed = {
        code: int(status) for code, status in re.findall(r"^\| `(\w+)` \| (\d{3}) \|", MANUAL, re.MULTILINE)
    }

    assert listed == {code: error.status for code, error in all_errors().items()}


def test_the_manual_names_every_permission_and_field():
    for word in {*KeyPermission.values} | LIST_FIELDS | TOKEN_FIELDS | SESSION_FIELDS:
        assert word in MANUAL
