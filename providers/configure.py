"""Add, change, enable and disable a provider in an application, each with its audit event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from portal.audit import record
from portal.models import Event
from providers.models import ProviderConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portal.audit import Actor
    from portal.models import Application, User
    from providers.spec import ProviderSpec


class AlreadyAddedError(Exception):
    """The application has this provider already; another tab or a colleague was faster."""


def add(
    application: Application,
    spec: ProviderSpec,
    *,
    client_id: str,
    client_secret: str,
    scopes: Sequence[str],
    user: User,
    actor: Actor,
) -> ProviderConfig:
    """Add a provider and return its configuration, at work from now on. Raises AlreadyAddedError."""
    config = ProviderConfig(
        application=application,
        provider_id=spec.id,
        client_id=client_id,
        scopes=list(scopes),
        secret_set_at=Now(),
        secret_set_by=user,
        created_by=user,
    )
    config.set_client_secret(client_secret)
    try:
        with transaction.atomic():
            config.save(force_insert=True)
            record(
                Event.PROVIDER_ADDED,
                actor=actor,
                application=application,
                subject=config,
                client_id=client_id,
                scopes=list(scopes),
            )
    except IntegrityError as error:
        if _broken_constraint(error) == "one_config_a_provider":
            raise AlreadyAddedError(spec.id) from None
        raise
    return config


def change(
    config: ProviderConfig,
    *,
    client_id: str,
    client_secret: str,
    scopes: Sequence[str],
    user: User,
    actor: Actor,
) -> list[str]:
    """Change a configuration and return what changed: "client_id", "client_secret", "scopes". No secret keeps the old.

    New credentials clear a noted problem: the next request shows whether they are right. Raises
    ProviderConfig.DoesNotExist if it was deleted meanwhile.
    """
    with transaction.atomic():
        locked = ProviderConfig.objects.select_for_update(of=("self",)).get(pk=config.pk)
        came = [scope for scope in scopes if scope not in locked.scopes]
        went = [scope for scope in locked.scopes if scope not in scopes]
        changed = {
            "client_id": client_id != locked.client_id,
            "client_secret": bool(client_secret),
            "scopes": bool(came or went),
        }
        locked.client_id, locked.scopes = client_id, list(scopes)
        if client_secret:
            locked.set_client_secret(client_secret)
            locked.secret_set_at, locked.secret_set_by = Now(), user
        is_mended = bool(locked.problem_code) and (changed["client_id"] or changed["client_secret"])
        if is_mended:
            locked.problem_code, locked.problem_message, locked.problem_since = "", "", None
        locked.save()
        if is_mended:
            # Who was told that it fails is told that it is tried again; if it still fails they hear so next.
            record(
                Event.PROVIDER_RECOVERED,
                actor=actor,
                application=config.application,
                subject=config,
                reason="new credentials were saved",
            )
        if changed["client_id"] or changed["scopes"]:
            record(
                Event.PROVIDER_CHANGED,
                actor=actor,
                application=config.application,
                subject=config,
                fields=[name for name in ("client_id", "scopes") if changed[name]],
                scopes_added=came,
                scopes_removed=went,
            )
        if client_secret:
            record(
                Event.PROVIDER_SECRET_REPLACED, actor=actor, application=config.application, subject=config
            )
    config.refresh_from_db()
    return [name for name, is_changed in changed.items() if is_changed]


def change_freshness(
    config: ProviderConfig,
    *,
    freshness: str,
    fresh_days: int,
    max_parallel: int | None,
    max_per_second: int | None,
    actor: Actor,
) -> bool:
    """Change which connections are kept fresh, and the limits; return whether anything changed.

    The due times of the connections are set anew by the next tick, however many there are. Raises
    ProviderConfig.DoesNotExist if it was deleted meanwhile.
    """
    wanted: dict[str, Any] = {
        "freshness": freshness,
        "fresh_days": fresh_days,
        "max_parallel": max_parallel,
        "max_per_second": max_per_second,
    }
    with transaction.atomic():
        locked = ProviderConfig.objects.select_for_update(of=("self",)).get(pk=config.pk)
        changed = {name: value for name, value in wanted.items() if getattr(locked, name) != value}
        if not changed:
            return False
        for name, value in changed.items():
            setattr(locked, name, value)
        if changed.keys() & {"freshness", "fresh_days"}:
            locked.replan_since = Now()
        locked.save(update_fields=[*changed, "replan_since"])
        record(Event.PROVIDER_CHANGED, actor=actor, application=config.application, subject=config, **changed)
    config.refresh_from_db()
    return True


def enable(config: ProviderConfig, *, actor: Actor) -> None:
    """Let it connect, refresh and hand out again. Enabling twice changes nothing."""
    _switch(config, is_enabled=True, event=Event.PROVIDER_ENABLED, actor=actor)


def disable(config: ProviderConfig, *, actor: Actor) -> None:
    """Stop connecting, refreshing and handing out; connections stay. Disabling twice changes nothing."""
    _switch(config, is_enabled=False, event=Event.PROVIDER_DISABLED, actor=actor)


def _switch(config: ProviderConfig, *, is_enabled: bool, event: Event, actor: Actor) -> None:
    with transaction.atomic():
        switched = ProviderConfig.objects.filter(pk=config.pk, is_enabled=not is_enabled).update(
            is_enabled=is_enabled
        )
        if switched:
            record(event, actor=actor, application=config.application, subject=config)
    config.is_enabled = is_enabled


def _broken_constraint(error: IntegrityError) -> str | None:
    cause = error.__cause__
    return cause.diag.constraint_name if isinstance(cause, psycopg.Error) else None
