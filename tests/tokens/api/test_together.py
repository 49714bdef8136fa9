"""Calls that come at the same time share a statement, and each gets its own answer and its own audit row."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from portal import api_keys
from portal.audit import SYSTEM
from portal.models import AuditEvent, Event
from tests.factories import GrantFactory, ProviderConfigFactory
from tests.processes import wait_until
from tests.threads import in_thread
from tests.tokens.api.caller import Caller
from tests.tokens.connecting import configured
from tokens.api import at_once, together
from tokens.api.together import SEATS, Together
from tokens.models import Grant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from providers.sandbox.thread import SandboxThread
    from tests.conftest import Cast


class Held:
    """Carries a group when it is told to, and knows which groups there were."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go = threading.Semaphore(0)

    def __call__(self, asked: Sequence[int]) -> list[int | None]:
        self.groups.append(list(asked))
        self.go.acquire()
        if 99 in asked:
            raise ConnectionError("gone")
        return [number * 10 if number else None for number in asked]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    monkeypatch.setattr(together, "TRIPS", 1)
    return Held()


def ask(shared: Together[int, int], held: Held, pool: ThreadPoolExecutor, *numbers: int) -> list[Future[Any]]:
    """Ask for one after the other, each in a thread of its own; each is on its way, or waits, before the next comes."""
    futures = []
    for number in numbers:
        futures.append(pool.submit(shared.ask, number))
        while number not in {one.asked for one in shared._waiting} | {
            one for group in held.groups for one in group
        }:
            time.sleep(0.001)
    return futures


def test_who_comes_alone_goes_at_once_and_who_comes_meanwhile_goes_together(held: Held) -> None:
    shared = Together(held)
    with ThreadPoolExecutor(32) as pool:
        futures = ask(shared, held, pool, 1, 0, *range(2, SEATS + 4))
        held.go.release(3)
        answers = [future.result(10) for future in futures]

    assert answers == [10, None, *(number * 10 for number in range(2, SEATS + 4))]
    assert [len(group) for group in held.groups] == [1, SEATS, 3]


def test_a_trip_that_fails_leaves_nobody_waiting(held: Held) -> None:
    shared = Together(held)
    with ThreadPoolExecutor(8) as pool:
        first, whose, along = ask(shared, held, pool, 1, 99, 2)
        held.go.release(3)
        assert first.result(10) == 10
        with pytest.raises(ConnectionError):
            whose.result(10)
        assert along.result(10) is None
    assert shared.ask(3) == 30


@pytest.mark.parametrize("is_spoilt", [False, True], ids=["all well", "one that the database refuses"])
@pytest.mark.django_db(transaction=True)
def test_d1_d9_each_of_a_group_gets_what_its_own_key_may_have_and_its_own_audit_row(
    sandbox: SandboxThread, cast: Cast, monkeypatch: pytest.MonkeyPatch, is_spoilt: bool
) -> None:
    config = configured(sandbox)
    mine, twice, theirs = (
        GrantFactory(provider_config=config, access_token="mine"),
        GrantFactory(provider_config=config, access_token="twice"),
        GrantFactory(
            provider_config=ProviderConfigFactory(application=cast.strangers_application),
            access_token="theirs",
        ),
    )
    good, stranger = Caller(config.application).text, Caller(cast.strangers_application).text
    revoked = Caller(config.application)
    api_keys.revoke(revoked.key, actor=SYSTEM)
    groups = []
    carry = at_once._carry

    def watched(statement: bytes, asked: Sequence[dict[str, Any]]) -> Any:
        groups.append(len(asked))
        if len(groups) == 1:
            wait_until(lambda: len(shared._waiting) == len(wanted), what="the others to queue up")
        return carry(statement, asked)

    shared = Together[Any, Any](lambda asked: watched(b"hand_out_by_id", asked))
    monkeypatch.setattr(together, "TRIPS", 1)
    monkeypatch.setitem(at_once._TOGETHER, b"hand_out_by_id", shared)

    def take(key: str, grant: str) -> str | None:
        connection.ensure_connection()
        found = api_keys.parse(key)
        assert found
        asked = {"min_ttl": 60, "address": "127.0.0.1", "request_id": f"call {grant}"[:32], "grant_id": grant}
        taken = at_once.take(b"hand_out_by_id", found, **asked)
        return taken and taken.access_token

    wanted = [
        (good, str(twice.pk), "twice"),
        (good, str(twice.pk), "twice"),
        (good, str(theirs.pk), None),
        (stranger, str(theirs.pk), "theirs"),
        (stranger, str(mine.pk), None),
        (revoked.text, str(mine.pk), None),
    ] + ([(good, "no uuid at all", None)] if is_spoilt else [])
    first = in_thread(lambda: take(good, str(mine.pk)))
    others = [in_thread(lambda key=key, grant=grant: take(key, grant)) for key, grant, _ in wanted]

    assert first.result(30) == "mine"
    assert [one.result(30) for one in others] == [token for _, _, token in wanted]
    assert groups == [1, len(wanted)]
    rows = AuditEvent.objects.filter(event=Event.TOKEN_HANDED_OUT).values_list("subject_id", "request_id")
    handed_out = [mine, twice, twice, theirs]
    assert sorted(rows) == sorted((str(one.pk), f"call {one.pk}"[:32]) for one in handed_out)
    assert sorted(Grant.objects.filter(used_at__isnull=False).values_list("pk")) == sorted(
        {(one.pk,) for one in handed_out}
    )
