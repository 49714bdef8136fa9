"""D11: calls generated from the OpenAPI document, right and wrong ones, one by one and in sequences.

Few in `make test`; `API_EXAMPLES=500 make test ARGS="tests/tokens/api/test_generated.py"` makes more of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS, load_all_checks

from tests.factories import GrantFactory
from tests.tokens.api.caller import Caller
from tests.tokens.connecting import configured
from tokens.models import GrantStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db

EXAMPLES = int(os.environ.get("API_EXAMPLES", "4"))
HOW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 50,
    database=None,
    stateful_step_count=6,
    suppress_health_check=list(HealthCheck),
)
load_all_checks()
# `not_a_server_error` would take a 503, which says that the provider is down, for a fault of ours.
HELD_TO = CHECKS.get_by_names(
    ["status_code_conformance", "content_type_conformance", "response_schema_conformance"]
)


@pytest.fixture
def caller(sandbox: SandboxThread) -> Caller:
    config = configured(sandbox)
    for status in GrantStatus:
        GrantFactory(provider_config=config, status=status)
    return Caller(config.application)


@pytest.fixture
def api(caller: Caller) -> Iterator[Any]:
    # They would close the connection that the test's transaction is in.
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", get_wsgi_application())
    schema.config.update(headers={"Authorization": f"Bearer {caller.text}"})
    yield schema
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


generated = schemathesis.pytest.from_fixture("api")


def no_fault_of_ours(ctx: Any, response: Any, case: Any) -> None:
    assert response.status_code != 500, f"{case.method} {case.path}: {response.text[:500]}"


@generated.parametrize()
@HOW
def test_d11_every_answer_is_one_that_the_document_knows(case):
    case.call_and_validate(checks=[*HELD_TO, no_fault_of_ours])


def test_d11_sequences_of_calls_meet_no_fault_of_ours(api):
    class Machine(api.as_state_machine()):
        def validate_response(self, response: Any, case: Any, **others: Any) -> None:
            seen.add(case.operation.label)
            case.validate_response(response, checks=[*HELD_TO, no_fault_of_ours])

    seen: set[str] = set()

    Machine.run(settings=settings(HOW, max_examples=2 * EXAMPLES))

    # It went on from what a list of grants showed.
    assert "GET /grants" in seen
    assert any("{id}" in label for label in seen)
