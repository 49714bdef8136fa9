"""Draining what is due while the database comes and goes: an answer that was had is not thrown away."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from providers.spec import LONGEST_READ
from tokens import engine
from tokens.engine import drain
from tokens.models import Grant, RefreshAttempt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from providers.sandbox.thread import SandboxThread

    Connect = Callable[..., Grant]

pytestmark = pytest.mark.django_db(transaction=True)

END_THE_SESSION_AT_THE_THIRD_CLAIM = """
CREATE FUNCTION end_the_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM tokens_refreshattempt) >= 2 THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER end_the_session BEFORE INSERT ON tokens_refreshattempt
    FOR EACH ROW EXECUTE FUNCTION end_the_session();
"""


@pytest.fixture
def third_claim_finds_no_database(transactional_db: None) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(END_THE_SESSION_AT_THE_THIRD_CLAIM)
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION end_the_session CASCADE")


@pytest.mark.usefixtures("third_claim_finds_no_database")
def test_calls_that_are_out_are_seen_to_their_end_when_a_claim_finds_no_database(
    connect: Connect, sandbox: SandboxThread
) -> None:
    for account in ("jo", "sam", "lee"):
        connect(due=True, account=account)
    sandbox.fault("latency", ms=700)

    attempts = drain(in_flight=2)

    assert attempts == 2
    assert set(RefreshAttempt.objects.values_list("outcome", flat=True)) == {"ok"}
    assert sorted(Grant.objects.values_list("gen", flat=True)) == [0, 1, 1]


def test_celery_ends_no_drain_that_still_holds_answers(settings: Any) -> None:
    longest = engine.BUDGET + LONGEST_READ + engine.HOLD

    assert longest < timedelta(seconds=settings.CELERY_TASK_SOFT_TIME_LIMIT)
    assert settings.CELERY_TASK_SOFT_TIME_LIMIT < settings.CELERY_TASK_TIME_LIMIT
    # Later the broker would give the task to a second worker.
    assert settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"] > settings.CELERY_TASK_TIME_LIMIT
