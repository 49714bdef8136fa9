"""Cells of the matrix: a fault at a moment, and grants of their own that go through it."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import transaction

from bench.faults.clock import database_now
from providers.sandbox.tokens import digest

if TYPE_CHECKING:
    import uuid
    from collections.abc import Sequence

    from providers.models import ProviderConfig
    from providers.sandbox.client import SandboxClient

SCOPES = ["read:me", "offline_access", "read:jira-work", "read:jira-user"]
SECRET = "ATOAbench-CANARY-7f3a-secret"
_numbers = itertools.count(1)


@dataclass
class Cell:
    """One row of the table, with the grants that it is judged by."""

    fault: str
    at: str
    config: ProviderConfig
    grants: list[uuid.UUID]
    # Where each known refresh token belongs, by its digest: the grant and its generation.
    known: dict[str, tuple[uuid.UUID, int]]
    first_call: int
    # Nothing gets through to the provider, ever: nothing must be sent, and nothing lost.
    is_hopeless: bool = False
    # The reference says that no client can help here (a provider without a leeway).
    may_lose: bool = False
    is_strict: bool = False
    began: float = 0.0
    recovered: float | None = None
    lost: int = 0
    double: int = 0
    in_flight: int = 0
    problems: list[str] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)

    @property
    def client_id(self) -> str:
        return self.config.client_id


def new_cell(
    sandbox: SandboxClient,
    fault: str,
    at: str,
    *,
    grants: int,
    provider: str = "quick",
    life: float = 300,
    is_due: bool = True,
) -> Cell:
    """Make an application with grants that are due now, whose access tokens have `life` seconds left.

    Where is_due is false the engine leaves them alone, and only a reader refreshes them.
    """
    number = next(_numbers)
    client_id = f"Cell{number:028d}"
    sandbox.register_client(client_id, SECRET)
    minted = sandbox.mint(client_id, grants, first=number * 1000)
    calls = sandbox.ledger()
    now = database_now()
    due_at = now - dt.timedelta(seconds=1) if is_due else now + dt.timedelta(hours=24)
    # Whole or not at all: beat proposes every second.
    with transaction.atomic():
        config = new_config(f"{fault}, {at}"[:100], f"cell-{number}", provider=provider, client_id=client_id)
        cell = Cell(fault, at, config, [], {}, calls[-1]["n"] if calls else 0)
        cell.is_strict = provider == "strict"
        stored = store(
            config, minted, expires_at=now + dt.timedelta(seconds=life), due_at=[due_at] * len(minted)
        )
        for grant, one in zip(stored, minted, strict=True):
            cell.grants.append(grant)
            cell.known[digest(one["refresh_token"])] = (grant, 0)
    return cell


def new_config(name: str, slug: str, *, provider: str, client_id: str) -> ProviderConfig:
    """Make an application with a provider configuration."""
    from portal.models import Application
    from providers.models import ProviderConfig

    application = Application.objects.create(name=name, slug=slug)
    config = ProviderConfig(application=application, provider_id=provider, client_id=client_id, scopes=SCOPES)
    config.set_client_secret(SECRET)
    config.save()
    return config


def store(
    config: ProviderConfig,
    minted: Sequence[dict[str, Any]],
    *,
    expires_at: dt.datetime,
    due_at: Sequence[dt.datetime],
) -> list[uuid.UUID]:
    """Store grants as the sandbox has minted them, each due at its time; return their ids."""
    from portal.encryption import seal
    from tokens.models import Grant, GrantTokens

    grants = [
        Grant(
            application=config.application,
            provider_config=config,
            end_user=one["account"],
            account_id=one["account_id"],
            status="active",
            requested_scopes=SCOPES,
            granted_scopes=SCOPES,
            refreshed_at=expires_at - dt.timedelta(seconds=one["expires_in"]),
            access_expires_at=expires_at,
            refresh_due_at=due,
            confirmed_at=expires_at,
        )
        for one, due in zip(minted, due_at, strict=True)
    ]
    Grant.objects.bulk_create(grants)
    rows = []
    for grant, one in zip(grants, minted, strict=True):
        row = GrantTokens(grant=grant)
        seal(row, "access_token", one["access_token"])
        seal(row, "refresh_token", one["refresh_token"])
        rows.append(row)
    GrantTokens.objects.bulk_create(rows)
    return [grant.pk for grant in grants]


def grants_of(cell: Cell) -> Any:
    """Return the cell's grants as they are now."""
    from tokens.models import Grant

    return Grant.objects.filter(pk__in=cell.grants).order_by("pk")


def put_away(cell: Cell) -> None:
    """Keep a judged cell's grants from coming due in later ones."""
    from providers.models import ProviderConfig

    ProviderConfig.objects.filter(pk=cell.config.pk).update(is_enabled=False)
