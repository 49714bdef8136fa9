"""Draining what is due while the database comes and goes: an answer that was had is not thrown away."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import connection

from providers.oauth import TokenSet
from tests.factories import database_now
from tokens import engine
from tokens.claim import claim_one
from tokens.engine import drain
from tokens.models import Grant, Trigger
from tokens.results import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.models import ProviderConfig

    Connect = Callable[..., Grant]

pytestmark = pytest.mark.django_db(transaction=True)


def cut_off() -> None:
    """End this process's session at the database, as a failover does."""
    other = connection.copy()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    other.close()


def test_an_answer_is_held_until_the_database_is_back(connect: Connect, config: ProviderConfig) -> None:
    grant = connect(due=True)
    claim = claim_one(grant, trigger=Trigger.BEAT)
    assert claim is not None
    result = Result(claim, config, TokenSet("new-access", "new-refresh", timedelta(hours=1), None))
    cut_off()

    engine._commit_held([result])

    assert Grant.objects.get(pk=grant.pk).gen == grant.gen + 1
