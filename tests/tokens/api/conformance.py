"""Hold every answer that a test gets from the API against the OpenAPI document."""

from __future__ import annotations

import copy
import functools
from typing import Any

from jsonschema import Draft202012Validator

from tokens.api.openapi import document, operations


def check(response: Any) -> None:
    """Fail if the document does not know this operation's status, code, or a field of its answer."""
    match = getattr(response, "resolver_match", None)
    method = response.request["REQUEST_METHOD"]
    if match is None or not str(match.url_name).startswith("api-"):
        return
    found = [path for path, name, its, _ in operations() if (name, its) == (match.url_name, method)]
    if not found:
        assert response.status_code in {404, 405}, f"{method} {match.url_name} is in no document"
        return
    assert response.status_code != 500, f"{method} {found[0]} met a fault of ours"
    if response.has_header("X-Portal-Provider"):
        return
    described = strict_document()["paths"][found[0]][method.lower()]["responses"]
    status = str(response.status_code)
    if "default" in described:
        assert response["Content-Type"] == "application/problem+json"
        return
    assert status in described, f"{method} {found[0]} answered {status}: {response.content[:300]!r}"
    ((content_type, content),) = described[status]["content"].items()
    assert response["Content-Type"] == content_type
    schema = {**content["schema"], "components": strict_document()["components"]}
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(response.json())]
    assert not errors, f"{method} {found[0]} answered {status}: {errors}"


@functools.cache
def strict_document() -> dict[str, Any]:
    """Return the document with nothing allowed in an object that it does not name."""
    strict = copy.deepcopy(document())
    for schema in strict["components"]["schemas"].values():
        schema.setdefault("additionalProperties", False)
    return strict
