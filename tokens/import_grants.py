"""Bring connections in from elsewhere: stored at once, refreshed by the engine, then looked at whether they are right."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from portal.audit import SYSTEM, Actor, record
from portal.encryption import UnreadableError, seal, unseal
from portal.models import Event
from providers.oauth import TokenSet
from tokens.clock import database_now
from tokens.discover import DiscoveryError, discover
from tokens.models import Grant, GrantStatus, GrantTokens, Site
from tokens.store import search_text

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from providers.models import ProviderConfig
    from providers.sites import SiteInfo
    from tokens.exchanged import Account

# How many one run looks at, each with a call or two, and for how long: other work waits for the worker.
BATCH = 50
BUDGET = timedelta(seconds=20)
# An account that can't be looked at for so long is left as the import said.
GIVE_UP_AFTER = timedelta(days=1)
ANOTHER_ACCOUNT = "its refresh token belongs to another account than the import said"


@dataclass(frozen=True)
class Incoming:
    """One connection as another store had it."""

    end_user: str
    account_id: str
    refresh_token: str = field(repr=False)
    label: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    scopes: Collection[str] | None = None


def existing(config: ProviderConfig, incoming: Incoming) -> Grant | None:
    """Return the connection that is already there for this end user and account."""
    same = config.grants.alive().filter(end_user=incoming.end_user, account_id=incoming.account_id)
    return same.first()


def bring_in(config: ProviderConfig, incoming: Incoming, *, actor: Actor) -> tuple[Grant, bool]:
    """Store a connection, due for a refresh at once, and return it with whether it is new.

    What is there already stays as it is: its tokens may be newer, and an import that is repeated does nothing.
    """
    if found := existing(config, incoming):
        return found, False
    now = database_now()
    grant = Grant(
        application=config.application,
        provider_config=config,
        end_user=incoming.end_user,
        account_id=incoming.account_id,
        label=incoming.label,
        metadata=dict(incoming.metadata),
        status=GrantStatus.ACTIVE,
        requested_scopes=list(config.scopes),
        granted_scopes=list(config.scopes if incoming.scopes is None else incoming.scopes),
        # There is no access token yet; whoever asks for one refreshes it first.
        access_expires_at=now,
        refresh_due_at=now,
        consented_at=now,
        confirmed_at=now,
        undiscovered_since=now,
    )
    grant.search_text = search_text(grant, [])
    try:
        with transaction.atomic():
            grant.save(force_insert=True)
            tokens = GrantTokens(grant=grant)
            seal(tokens, "refresh_token", incoming.refresh_token)
            tokens.save(force_insert=True)
            record(
                Event.GRANT_IMPORTED,
                actor=actor,
                application=config.application,
                subject=grant,
                provider=config.provider_id,
                account=grant.account_id,
            )
    except IntegrityError:
        # Somebody else was faster with the same one.
        if found := existing(config, incoming):
            return found, False
        raise
    return grant, True


def look_at_imported() -> int:
    """Ask whose the imported connections are and which sites they reach, once each, and return how many were looked at.

    Only with an access token of our own: the engine refreshes first. Each run begins somewhere else, so that those that
    can't be looked at keep no others from it, and two workers seldom look at the same.
    """
    now, stop = database_now(), time.monotonic() + BUDGET.total_seconds()
    Grant.objects.filter(undiscovered_since__lt=now - GIVE_UP_AFTER).update(undiscovered_since=None)
    waiting = Grant.objects.filter(
        undiscovered_since__isnull=False, status=GrantStatus.ACTIVE, gen__gt=0, access_expires_at__gt=now
    )
    waiting = waiting.select_related("application", "provider_config__application", "tokens").order_by("pk")
    done = 0
    for grant in list(waiting.filter(pk__gte=uuid.uuid4())[:BATCH]) or waiting[:BATCH]:
        if time.monotonic() > stop:
            break
        config = grant.provider_config
        try:
            access_token = unseal(grant.tokens, "access_token")
            if not config.is_working or not access_token:
                continue
            tokens = TokenSet(access_token=access_token, refresh_token=None, lifetime=None, scopes=None)
            account, sites = discover(config.spec, tokens, scopes=grant.granted_scopes)
        except (DiscoveryError, UnreadableError):
            continue
        _settle(grant, account, sites)
        done += 1
    return done


def _settle(grant: Grant, account: Account, sites: tuple[SiteInfo, ...]) -> None:
    with transaction.atomic():
        grant = Grant.objects.select_for_update(of=("self",)).select_related("application").get(pk=grant.pk)
        if grant.undiscovered_since is None or grant.status != GrantStatus.ACTIVE:
            return
        grant.undiscovered_since = None
        if account.id != grant.account_id:
            # Never silently somebody else's (A17).
            grant.status, grant.cause = GrantStatus.NEEDS_RECONNECT, ANOTHER_ACCOUNT
            grant.refresh_due_at, grant.ended_at = None, database_now()
            record(
                Event.GRANT_NEEDS_RECONNECT,
                actor=SYSTEM,
                application=grant.application,
                subject=grant,
                cause=grant.cause,
            )
        else:
            grant.account_name, grant.account_email = account.name, account.email
            Site.objects.filter(grant=grant).delete()
            Site.objects.bulk_create(
                Site(
                    grant=grant,
                    cloud_id=site.cloud_id,
                    name=site.name,
                    url=site.url,
                    products=list(site.products),
                    scopes=list(site.scopes),
                )
                for site in sites
            )
            grant.search_text = search_text(grant, sites)
        grant.save(
            update_fields=[
                "undiscovered_since",
                "status",
                "cause",
                "refresh_due_at",
                "ended_at",
                "account_name",
                "account_email",
                "search_text",
            ]
        )
