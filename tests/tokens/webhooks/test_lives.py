"""What an application hears of a connection's whole life: the sandbox, the engine and a consent, as they really are."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from portal.audit import SYSTEM
from providers.models import ProviderConfig
from providers.oauth import TokenSet
from tests.factories import database_now
from tests.tokens.connecting import opened
from tokens.claim import claim_one
from tokens.commit import commit
from tokens.confirm import exchange_return_code, new_return_code
from tokens.engine import drain
from tokens.exchanged import Account, Exchanged
from tokens.models import Confirmation, ConnectSession, Grant, Trigger
from tokens.models.connect import SessionStatus
from tokens.results import Result
from tokens.revoke import revoke
from tokens.store import store_grant
from tokens.webhooks.deliver import deliver

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.sandbox.thread import SandboxThread
    from tests.tokens.webhooks.receiver import Receiver

pytestmark = pytest.mark.django_db(transaction=True)


def consent(config: ProviderConfig, confirmation: Confirmation, account: str = "712020:jo") -> ConnectSession:
    session, _ = opened(config, end_user="user-4711", confirmation=confirmation)
    brought = Exchanged(
        tokens=TokenSet("access", "refresh", timedelta(hours=1), None),
        account=Account(account),
        sites=(),
        requested=("read:me",),
        received_at=database_now(),
    )
    grant = store_grant(session, brought, chosen=[], actor=SYSTEM)
    ConnectSession.objects.filter(pk=session.pk).update(grant=grant, status=SessionStatus.DONE)
    return ConnectSession.objects.get(pk=session.pk)


def test_a_connection_dies_and_heals_and_the_application_hears_both(
    connect: Callable[..., Grant],
    config: ProviderConfig,
    sandbox: SandboxThread,
    new_endpoint: Callable,
    receiver: Receiver,
) -> None:
    grant = connect(due=True)
    new_endpoint(config.application)
    sandbox.revoke_grant("jo", config.client_id)
    for _ in range(2):
        Grant.objects.update(refresh_due_at=database_now(), next_attempt_at=None)
        drain()
    claim = claim_one(grant, trigger=Trigger.MEMBER, is_forced=True)
    assert claim is not None
    whole = ProviderConfig.objects.select_related("application").get(pk=config.pk)
    commit([Result(claim, whole, TokenSet("late-access", "late-refresh", timedelta(hours=1), None))])
    revoke(grant, actor=SYSTEM)

    deliver()

    assert receiver.types == ["grant.needs_reconnect", "grant.recovered", "grant.revoked"]
    assert [request.data["status"] for request in receiver.received] == [
        "needs_reconnect",
        "active",
        "revoked",
    ]
    assert "removed at Atlassian" in receiver.received[0].data["cause"]
    assert receiver.received[1].data["cause"] == ""
    assert {request.data["grant_id"] for request in receiver.received} == {str(grant.pk)}


def test_a_connection_is_told_of_once_its_code_is_traded_and_repaired_ones_keep_their_id(
    config: ProviderConfig, new_endpoint: Callable, receiver: Receiver
) -> None:
    new_endpoint(config.application)
    config.application.return_origins = ["https://app.acme.example"]
    config.application.save()

    session = consent(config, Confirmation.CODE)
    # A second try before the first was confirmed: still nobody's.
    consent(config, Confirmation.CODE)
    deliver()
    assert receiver.types == []
    code = new_return_code(session)
    exchange_return_code(config.application, code=code, end_user="user-4711", actor=SYSTEM)
    consent(config, Confirmation.CODE)
    deliver()

    assert receiver.types == ["grant.connected", "grant.reconnected"]
    assert {request.data["grant_id"] for request in receiver.received} == {str(Grant.objects.get().pk)}


def test_a_waiting_connection_that_a_login_vouches_for_has_connected_and_not_reconnected(
    config: ProviderConfig, new_endpoint: Callable, receiver: Receiver
) -> None:
    new_endpoint(config.application)
    consent(config, Confirmation.MEMBER)

    consent(config, Confirmation.LOGIN)
    deliver()

    assert receiver.types == ["grant.connected"]
