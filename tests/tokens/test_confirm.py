"""A connection is active only once somebody has vouched for it."""

from __future__ import annotations

import datetime as dt
import threading
from typing import TYPE_CHECKING

import pytest
from django.db import connection
from django.utils import timezone

from portal.audit import SYSTEM
from portal.models import AuditEvent, Event
from tests.factories import GrantFactory, ProviderConfigFactory
from tests.tokens.connecting import RETURN_ORIGIN, opened
from tokens.confirm import confirm, exchange_return_code, new_return_code, reject
from tokens.errors import NotPendingError, ReturnCodeError
from tokens.models import Confirmation, ConnectSession, Grant, GrantStatus, GrantTokens
from tokens.models.connect import SessionStatus

if TYPE_CHECKING:
    from providers.models import ProviderConfig

pytestmark = pytest.mark.django_db


@pytest.fixture
def config(db: None) -> ProviderConfig:
    config = ProviderConfigFactory.create()
    config.application.return_origins = [RETURN_ORIGIN]
    config.application.save()
    return config


def finished(
    config: ProviderConfig, grant: Grant, confirmation: Confirmation = Confirmation.CODE
) -> ConnectSession:
    """Return a session that ended with the grant."""
    session, _ = opened(config, end_user=grant.end_user, confirmation=confirmation)
    session.status, session.grant = SessionStatus.DONE, grant
    session.save()
    return session


def test_confirming_makes_it_active_and_plans_its_refresh(config: ProviderConfig) -> None:
    grant = GrantFactory.create(provider_config=config, pending=True)

    confirmed = confirm(grant, actor=SYSTEM)

    assert confirmed.status == GrantStatus.ACTIVE
    assert confirmed.confirmed_at is not None
    assert confirmed.refresh_due_at is not None
    assert AuditEvent.objects.about_grant(grant.pk).filter(event=Event.GRANT_CONFIRMED).count() == 1


@pytest.mark.parametrize("trait", ["revoked", "needs_reconnect", "due"])
def test_only_a_waiting_connection_is_confirmed_or_rejected(config: ProviderConfig, trait: str) -> None:
    grant = GrantFactory.create(provider_config=config, **{trait: True})

    with pytest.raises(NotPendingError):
        confirm(grant, actor=SYSTEM)
    with pytest.raises(NotPendingError):
        reject(grant, actor=SYSTEM)


def test_rejecting_erases_its_tokens_and_says_so_in_the_audit_log(config: ProviderConfig) -> None:
    grant = GrantFactory.create(provider_config=config, pending=True)

    rejected = reject(grant, actor=SYSTEM)

    assert rejected.status == GrantStatus.REVOKED
    assert not GrantTokens.objects.filter(grant=grant).exists()
    assert AuditEvent.objects.about_grant(grant.pk).filter(event=Event.GRANT_REJECTED).count() == 1
    assert not AuditEvent.objects.about_grant(grant.pk).filter(event=Event.GRANT_REVOKED).exists()


def test_a_code_makes_the_connection_active_once(config: ProviderConfig) -> None:
    grant = GrantFactory.create(provider_config=config, pending=True)
    code = new_return_code(finished(config, grant))

    exchanged = exchange_return_code(config.application, code=code, end_user=grant.end_user, actor=SYSTEM)

    assert exchanged.pk == grant.pk
    assert exchanged.status == GrantStatus.ACTIVE
    with pytest.raises(ReturnCodeError):
        exchange_return_code(config.application, code=code, end_user=grant.end_user, actor=SYSTEM)


def test_a_code_for_another_end_user_is_spent_by_the_try(config: ProviderConfig) -> None:
    grant = GrantFactory.create(provider_config=config, pending=True)
    code = new_return_code(finished(config, grant))

    with pytest.raises(ReturnCodeError):
        exchange_return_code(config.application, code=code, end_user="somebody-else", actor=SYSTEM)

    with pytest.raises(ReturnCodeError):
        exchange_return_code(config.application, code=code, end_user=grant.end_user, actor=SYSTEM)
    grant.refresh_from_db()
    assert grant.status == GrantStatus.PENDING


def test_a_code_ends_after_ten_minutes(config: ProviderConfig) -> None:
    grant = GrantFactory.create(provider_config=config, pending=True)
    session = finished(config, grant)
    code = new_return_code(session)
    session.refresh_from_db()
    assert session.return_code_expires_at is not None
    lifetime = session.return_code_expires_at - timezone.now()
    ConnectSession.objects.update(return_code_expires_at=timezone.now() - dt.timedelta(seconds=1))

    with pytest.raises(ReturnCodeError):
        exchange_return_code(config.application, code=code, end_user=grant.end_user, actor=SYSTEM)

    assert lifetime <= dt.timedelta(minutes=10)


def test_a_new_code_ends_the_earlier_one(config: ProviderConfig) -> None:
    grant = GrantFactory.create(provider_config=config, pending=True)
    session = finished(config, grant)
    earlier, later = new_return_code(session), new_return_code(session)

    with pytest.raises(ReturnCodeError):
        exchange_return_code(config.application, code=earlier, end_user=grant.end_user, actor=SYSTEM)

    exchanged = exchange_return_code(config.application, code=later, end_user=grant.end_user, actor=SYSTEM)
    assert exchanged.status == GrantStatus.ACTIVE


def test_a_code_is_stored_as_a_digest(config: ProviderConfig) -> None:
    session = finished(config, GrantFactory.create(provider_config=config, pending=True))

    code = new_return_code(session)

    assert code not in str(ConnectSession.objects.filter(pk=session.pk).values().get())


@pytest.mark.parametrize("confirmation", [Confirmation.MEMBER, Confirmation.LOGIN])
def test_there_is_no_code_where_somebody_else_confirms(
    config: ProviderConfig, confirmation: Confirmation
) -> None:
    session = finished(config, GrantFactory.create(provider_config=config, pending=True), confirmation)

    with pytest.raises(ReturnCodeError):
        new_return_code(session)


def test_there_is_no_code_for_what_is_not_connected_or_not_any_more(config: ProviderConfig) -> None:
    open_one, _ = opened(config, confirmation=Confirmation.CODE)
    revoked = finished(config, GrantFactory.create(provider_config=config, revoked=True))

    for session in (open_one, revoked):
        with pytest.raises(ReturnCodeError):
            new_return_code(session)


def test_a_code_is_worth_nothing_once_the_connection_is_revoked(config: ProviderConfig) -> None:
    grant = GrantFactory.create(provider_config=config, pending=True)
    code = new_return_code(finished(config, grant))
    reject(grant, actor=SYSTEM)

    with pytest.raises(ReturnCodeError):
        exchange_return_code(config.application, code=code, end_user=grant.end_user, actor=SYSTEM)


@pytest.mark.parametrize("code", ["", "x", "a" * 43])
def test_a_made_up_code_is_refused(config: ProviderConfig, code: str) -> None:
    finished(config, GrantFactory.create(provider_config=config, pending=True, end_user="user-1"))

    with pytest.raises(ReturnCodeError):
        exchange_return_code(config.application, code=code, end_user="user-1", actor=SYSTEM)


def test_a_code_after_reconnecting_returns_the_grant_that_is_active_already(config: ProviderConfig) -> None:
    grant = GrantFactory.create(provider_config=config)
    code = new_return_code(finished(config, grant))

    exchanged = exchange_return_code(config.application, code=code, end_user=grant.end_user, actor=SYSTEM)

    assert exchanged.pk == grant.pk
    assert not AuditEvent.objects.filter(event=Event.GRANT_CONFIRMED).exists()


@pytest.mark.django_db(transaction=True)
def test_one_code_that_is_exchanged_five_times_at_once_works_once(db: None) -> None:
    config = ProviderConfigFactory.create()
    config.application.return_origins = [RETURN_ORIGIN]
    config.application.save()
    grant = GrantFactory.create(provider_config=config, pending=True)
    code = new_return_code(finished(config, grant))
    came_to: list[str] = []

    def exchange() -> None:
        try:
            exchange_return_code(config.application, code=code, end_user=grant.end_user, actor=SYSTEM)
            came_to.append("ok")
        except ReturnCodeError:
            came_to.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=exchange) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(came_to) == ["ok", "refused", "refused", "refused", "refused"]
