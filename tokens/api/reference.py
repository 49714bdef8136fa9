"""The API's reference for people, at /api/docs: a page made from the OpenAPI document, so it says the same.

Not one of the usual viewers: they are JavaScript applications that show nothing without it. Whoever likes one better
points it at openapi.json.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.contrib.auth.decorators import login_not_required
from django.shortcuts import render
from django.views.decorators.http import require_safe

from tokens.api.openapi import document
from tokens.api.problems import RETRY_AFTER_S, all_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest, HttpResponse

GROUPS = {
    "token": "Tokens",
    "proxy": "Proxy",
    "grants": "Grants",
    "connect": "Connecting",
    "manage-links": "The end user's own page",
    "audit": "Audit log",
}
# What an example sends, by the field's name; a field without one is left out of it.
EXAMPLES: dict[str, Any] = {
    "end_user": "user-4711",
    "provider": "atlassian",
    "return_url": "https://app.example.com/settings",
    "code": "…",
    "label": "Sales",
    "metadata": {"plan": "team"},
    "dry_run": True,
    "rows": [
        {
            "end_user": "user-4711",
            "provider": "atlassian",
            "account_id": "712020:…",
            "refresh_token": "…",
        }
    ],
}


@login_not_required  # It says what the manual says.
@require_safe
def reference(request: HttpRequest) -> HttpResponse:
    """Show every operation: what may be sent, what comes back, and what can go wrong."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document()["paths"].items():
        # Methods that are told the same, as the proxy's are, are told once.
        same: dict[str, list[str]] = {}
        for method, told in methods.items():
            same.setdefault(told["summary"], []).append(method)
        for first, *others in same.values():
            told = methods[first]
            entry = _operation(path, first, told)
            entry["method"] = ", ".join(method.upper() for method in (first, *others))
            found.setdefault(told["tags"][0], []).append(entry)
    groups = [(GROUPS.get(tag, tag), entries) for tag, entries in found.items()]
    return render(
        request,
        "tokens/api_reference.html",
        {
            "groups": groups,
            "base": document()["servers"][0]["url"],
            "errors": [
                {
                    "code": code,
                    "status": error.status,
                    "text": error.message,
                    "retry": RETRY_AFTER_S.get(code),
                }
                for code, error in sorted(all_errors().items())
            ],
        },
    )


def _operation(path: str, method: str, told: dict[str, Any]) -> dict[str, Any]:
    fields = [
        {
            "name": one["name"],
            "place": one["in"],
            "is_required": one["required"],
            "about": _plain(one.get("description", "")),
            "kind": _kind(one["schema"]),
        }
        for one in told.get("parameters", [])
    ]
    body = told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body:
        fields += _body_fields(body)
    good = next(status for status in told["responses"] if status.startswith("2"))
    answer = told["responses"][good]
    return {
        "id": told["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": told["summary"],
        "description": [_plain(text) for text in told["description"].split("\n\n")[:-1]],
        "permission": told["x-permission"],
        "fields": fields,
        "status": good,
        "answer": _plain(answer["description"]),
        "answer_fields": list(_answer_fields(answer)),
        "codes": [
            code
            for status, problem in told["responses"].items()
            if not status.startswith("2")
            for code in problem.get("x-codes")
            or problem["content"]["application/problem+json"]["schema"]["properties"]["code"]["enum"]
        ],
        "example": _example(path, method.upper(), fields),
    }


def _plain(text: str) -> str:
    """Leave out the document's CommonMark, which is no more than code in backticks."""
    return text.replace("`", "")


def _body_fields(body: dict[str, Any], *, inside: str = "") -> list[dict[str, Any]]:
    fields = []
    for name, schema in body["properties"].items():
        fields.append(
            {
                "name": inside + name,
                "place": "body",
                "is_required": name in body.get("required", []),
                "about": _plain(schema.get("description", "")),
                "kind": _kind(schema),
            }
        )
        rows = schema.get("items", {})
        if "properties" in rows:
            fields += _body_fields(rows, inside=f"{inside}{name}[].")
    return fields


def _answer_fields(answer: dict[str, Any]) -> Iterator[dict[str, str]]:
    schema = answer.get("content", {}).get("application/json", {}).get("schema")
    if schema:
        for name, told in _resolved(schema).get("properties", {}).items():
            yield {"name": name, "about": _plain(told.get("description", "")), "kind": _kind(told)}


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: dict[str, Any] = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return found
    return schema


def _kind(schema: dict[str, Any]) -> str:
    """Say what values look like: "text, up to 200", "list of Site", "one of open, done"."""
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2]).removesuffix("Shape")
    if "enum" in schema:
        words = [word for word in schema["enum"] if word is not None]
        # A long list is in the document.
        return (
            "one of " + ", ".join(words)
            if len(words) <= 8
            else f"one of {len(words)} words, such as {words[-1]}"
        )
    match schema.get("type"):
        case "array":
            return f"list of {_kind(schema['items'])}"
        case "integer" if "maximum" in schema:
            default = f", {schema['default']} if left out" if "default" in schema else ""
            return f"{schema['minimum']} to {schema['maximum']}{default}"
        case "string":
            ends = {"uuid": "id", "date-time": "time"}
            longest = f", up to {schema['maxLength']}" if "maxLength" in schema else ""
            return ends.get(schema.get("format", ""), "text") + longest
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return "object of texts"
        case kind:
            return {"integer": "number", "boolean": "true or false", "null": "null"}.get(str(kind), str(kind))


def _example(path: str, method: str, fields: list[dict[str, Any]]) -> str:
    sent = {
        field["name"]: EXAMPLES[field["name"]]
        for field in fields
        if field["place"] == "body" and field["name"] in EXAMPLES
    }
    query = "&".join(
        f"{field['name']}={EXAMPLES[field['name']]}"
        for field in fields
        if field["place"] == "query" and field["is_required"]
    )
    address = "$PORTAL" + path.replace("{", "$").replace("}", "") + (f"?{query}" if query else "")
    verb = "" if method == "GET" else f"-X {method} "
    lines = [f'curl {verb}"{address}" -H "Authorization: Bearer $KEY"']
    if sent:
        lines[0] += ' -H "Content-Type: application/json" \\'
        lines.append(f"  -d '{json.dumps(sent, ensure_ascii=False)}'")
    return "\n".join(lines)
