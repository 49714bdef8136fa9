"""Deleting a provider or an application erases all that hangs on it, and nothing else."""

from __future__ import annotations

import pytest
from django.apps import apps

from portal import applications
from portal.audit import SYSTEM
from portal.models import AuditEvent
from providers.remove import remove
from tests.factories import GrantFactory, ProviderConfigFactory, database_now
from tokens.models import (
    AuthorizationRequest,
    Confirmation,
    ConnectSession,
    Grant,
    RefreshAttempt,
    RefreshCount,
    RefreshMinute,
    RefreshTotal,
    Trigger,
    UpstreamRevocation,
)

pytestmark = pytest.mark.django_db


# What belongs to an application, and not to a provider of it.
OF_THE_APPLICATION = ("KeptAnswer", "ManageLink")


def full(grant: Grant) -> Grant:
    """Give a grant one row of everything."""
    config = grant.provider_config
    RefreshAttempt.objects.create(grant=grant, provider_config=config, gen=0, epoch=1, trigger=Trigger.BEAT)
    counted = {"provider_config": config, "application": config.application, "outcome": "ok"}
    RefreshMinute.objects.create(starts_at=database_now(), **counted)
    RefreshCount.objects.create(starts_at=database_now(), **counted)
    RefreshTotal.objects.create(**counted)
    session = ConnectSession.objects.create(
        application=config.application,
        provider_config=config,
        confirmation=Confirmation.MEMBER,
        end_user=grant.end_user,
        link_digest=str(grant.pk),
        grant=grant,
        reconnect_grant=grant,
        expires_at=database_now(),
    )
    AuthorizationRequest.objects.create(
        session=session,
        state_digest=str(grant.pk),
        browser_digest="browser",
        client_id="client",
        redirect_uri="https://portal.example/",
        token_url="https://provider.example/",
        expires_at=database_now(),
    )
    UpstreamRevocation.objects.create(
        application=config.application, provider_config=config, grant=grant, next_try_at=database_now()
    )
    return grant


def rows() -> dict[str, int]:
    return {
        model.__name__: model._default_manager.count() for model in apps.get_app_config("tokens").get_models()
    }


def test_a_deleted_provider_takes_everything_of_its_own_along_and_nothing_of_anothers() -> None:
    full(GrantFactory())
    others = rows()
    doomed = full(GrantFactory())

    count = remove(doomed.provider_config, actor=SYSTEM)

    assert count == 1
    assert rows() == others
    assert {name: count for name, count in others.items() if count != 1} == dict.fromkeys(
        OF_THE_APPLICATION, 0
    )
    assert AuditEvent.objects.filter(event="provider:deleted").count() == 1


def test_a_deleted_application_takes_everything_of_its_own_along_and_nothing_of_anothers() -> None:
    full(GrantFactory())
    others = rows()
    doomed = full(GrantFactory())

    applications.delete(doomed.application, actor=SYSTEM)

    assert rows() == others
    assert AuditEvent.objects.get(event="application:deleted").detail["went_with_it"]["connections"] == 1


def test_a_provider_without_grants_is_deleted_too() -> None:
    config = ProviderConfigFactory()

    assert remove(config, actor=SYSTEM) == 0
