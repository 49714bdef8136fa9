"""The OpenAPI 3.1 document, made from the table in urls.py: fields, answers, errors and permissions stand there once."""

from __future__ import annotations

import functools
import inspect
import itertools
import re
from typing import TYPE_CHECKING, Any

import msgspec
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import JsonResponse
from django.urls import reverse
from django.views.decorators.http import require_safe

from tokens.api.fields import METHODS_WITH_BODY
from tokens.api.problems import title_of
from tokens.api.shapes import GrantPage, GrantShape, OpenedSession, ProblemShape, TokenShape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest
    from django.urls import URLPattern

    from tokens.api.operation import Operation

# Which operations go on from an answer, and where in it their id stands.
OF_A_GRANT = (
    "get-grant",
    "patch-grant",
    "delete-grant",
    "get-grant-token",
    "post-grant-refresh",
    "post-grant-reconnect",
)
LINKS: dict[Any, tuple[str, tuple[str, ...]]] = {
    GrantPage: ("/grants/0/id", OF_A_GRANT),
    GrantShape: ("/id", OF_A_GRANT),
    TokenShape: ("/grant", OF_A_GRANT),
    OpenedSession: ("/id", ("get-connect-session",)),
}
REF = "#/components/schemas/{name}"
ABOUT = """Connect your users, then get a fresh access token in one call. For servers only: no browser and no app may hold a key.

Decide by a problem's `code`, which does not change. Fields that a call does not know are refused by name."""

IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Any text of your own. A call that is sent again with it within a day is carried out once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}


@login_not_required  # It says what the manual says.
@require_safe
def openapi(request: HttpRequest) -> JsonResponse:
    """Answer with the document."""
    return JsonResponse(document())


@functools.cache
def document() -> dict[str, Any]:
    """Return the document as JSON has it. It is made once a process; do not change it."""
    paths: dict[str, dict[str, Any]] = {}
    shapes: list[Any] = [ProblemShape]
    for path, name, method, operation in operations():
        paths.setdefault(path, {})[method.lower()] = _operation(path, name, method, operation)
        if operation.answers is not None:
            shapes.append(operation.answers)
    _, schemas = msgspec.json.schema_components(shapes, ref_template=REF)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Developer portal", "version": "1", "description": ABOUT},
        "servers": [{"url": f"{settings.PUBLIC_URL}{_base()}"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key: `dpk_…`."}
            },
        },
    }


def operations() -> Iterator[tuple[str, str, str, Operation]]:
    """Yield each operation's path as OpenAPI writes it, the name of its address, its method, and itself."""
    from tokens.api.urls import urlpatterns

    for pattern in urlpatterns:
        for method, operation in getattr(pattern.callback, "operations", {}).items():
            yield _path(pattern), str(pattern.name), method, operation


def _base() -> str:
    return reverse("api-openapi").removesuffix("/openapi.json")


def _path(pattern: URLPattern) -> str:
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern)).replace("{pk}", "{id}")


def _operation(path: str, name: str, method: str, operation: Operation) -> dict[str, Any]:
    summary, _, rest = (inspect.getdoc(operation.carry_out) or "").partition("\n\n")
    needs = f"Needs the permission `{operation.permission.value}`."
    described: dict[str, Any] = {
        "operationId": f"{method.lower()}-{name.removeprefix('api-')}",
        "tags": [path.split("/")[1]],
        "summary": " ".join(summary.split()),
        "description": "\n\n".join([" ".join(part.split()) for part in rest.split("\n\n") if part] + [needs]),
        "x-permission": operation.permission.value,
    }
    parameters: list[dict[str, Any]] = [
        {"name": part, "in": "path", "required": True, "schema": {"type": "string"}}
        for part in re.findall(r"{(\w+)}", path)
    ]
    takes = operation.takes or {}
    if method in METHODS_WITH_BODY and operation.takes is not None:
        is_required = any(field.is_required for field in takes.values())
        described["requestBody"] = {
            "required": is_required,
            "content": {"application/json": {"schema": body_schema(operation)}},
        }
    else:
        parameters += [
            {
                "name": field_name,
                "in": "query",
                "required": field.is_required,
                "description": field.about,
                "schema": field.kind(),
            }
            for field_name, field in takes.items()
        ]
    if operation.may_be_sent_again(method):
        parameters.append(IDEMPOTENCY_KEY)
    if parameters:
        described["parameters"] = parameters
    described["responses"] = {str(operation.status): _good_answer(operation), **_problems(operation, method)}
    if operation.answers is None:
        # With any status; X-Portal-Provider tells the provider's answers from our problems.
        codes = sorted({error.code for error in operation.all_errors(method)})
        described["responses"] = {
            "200": _good_answer(operation),
            "default": {**_good_answer(operation), "x-codes": codes},
        }
    return described


def body_schema(operation: Operation) -> dict[str, Any]:
    """Return the JSON Schema of what is sent in a body."""
    takes = operation.takes or {}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {name: field.schema() for name, field in takes.items()},
        "additionalProperties": False,
    }
    if required := [name for name, field in takes.items() if field.is_required]:
        schema["required"] = required
    return schema


def _good_answer(operation: Operation) -> dict[str, Any]:
    if operation.answers is None:
        return {
            "description": "What the provider answered, with `X-Portal-Provider`; without it a problem document.",
        }
    (schema,), _ = msgspec.json.schema_components([operation.answers], ref_template=REF)
    answer: dict[str, Any] = {
        "description": (inspect.getdoc(operation.answers) or "").partition("\n\n")[0],
        "content": {"application/json": {"schema": schema}},
    }
    if led_to := LINKS.get(operation.answers):
        place, operation_ids = led_to
        answer["links"] = {
            operation_id: {"operationId": operation_id, "parameters": {"id": f"$response.body#{place}"}}
            for operation_id in operation_ids
        }
    return answer


def _problems(operation: Operation, method: str) -> dict[str, Any]:
    """Return the problem documents by status, each naming its codes."""
    errors = sorted(set(operation.all_errors(method)), key=lambda error: (error.status, error.code))
    answers = {}
    for status, group in itertools.groupby(errors, key=lambda error: error.status):
        codes = [error.code for error in group]
        schema = {
            "allOf": [{"$ref": REF.format(name=ProblemShape.__name__)}],
            "properties": {"code": {"enum": codes}},
        }
        answers[str(status)] = {
            "description": "; ".join(title_of(code) for code in codes),
            "content": {"application/problem+json": {"schema": schema}},
        }
    return answers
