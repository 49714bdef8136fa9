"""The page at /api/docs says what the OpenAPI document says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from django.utils.html import escape

from tokens.api.openapi import document
from tokens.api.problems import all_errors

if TYPE_CHECKING:
    from django.test import Client

pytestmark = pytest.mark.django_db


def test_every_operation_field_and_error_is_on_the_page(client: Client) -> None:
    page = client.get("/api/docs").content.decode()

    for path, methods in document()["paths"].items():
        for method, told in methods.items():
            assert re.search(rf"<code>[A-Z, ]*\b{method.upper()}\b[A-Z, ]* {re.escape(path)}</code>", page)
            assert escape(told["summary"]) in page
            for parameter in told.get("parameters", []):
                assert f"<code>{parameter['name']}</code>" in page
    for code in all_errors():
        assert f'id="error-{code}"' in page


def test_the_document_is_openapi_3_1_and_its_references_lead_somewhere(client: Client) -> None:
    answer = client.get("/api/v1/openapi.json")

    told = answer.json()
    assert told["openapi"].startswith("3.1")
    text = answer.content.decode()
    for name in told["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in text
    assert text.count('"$ref"') > 20
