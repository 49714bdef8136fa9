"""Take a grant back: at once for us, upstream where the provider can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models.functions import Now

from portal.audit import Actor, record
from portal.models import Event
from tokens import upstream
from tokens.erase import erase_all_of_provider
from tokens.models import Grant, GrantStatus, GrantTokens

if TYPE_CHECKING:
    from portal.models import Application
    from providers.models import ProviderConfig


def revoke(grant: Grant, *, actor: Actor, reason: str = "", event: Event = Event.GRANT_REVOKED) -> Grant:
    """Erase a grant's tokens and mark it revoked, then try to end it at the provider too.

    Returns the grant with `upstream_revocation` saying what the provider answered; where it gave no good answer it is
    asked again later (tokens/upstream.py). Revoking twice, or what was erased meanwhile, changes nothing.
    """
    with transaction.atomic():
        found = (
            Grant.objects.select_for_update(of=("self",))
            .select_related("provider_config__application")
            .filter(pk=grant.pk)
            .first()
        )
        if found is None:
            # Erased with its provider while we waited for it.
            grant.status = GrantStatus.REVOKED
            return grant
        grant = found
        if grant.status == GrantStatus.REVOKED:
            return grant
        token = _token_to_revoke(grant)
        to_end = upstream.write_down(grant, token)
        GrantTokens.objects.filter(grant=grant).delete()
        grant.status = GrantStatus.REVOKED
        grant.refresh_due_at = grant.next_attempt_at = grant.access_expires_at = None
        grant.claim_owner = grant.claim_until = grant.inflight_gen = grant.inflight_since = None
        grant.fail_outcome, grant.fail_count = "", 0
        grant.cause = reason[:200]
        grant.revoked_at = Now()
        grant.save()
        record(
            event,
            actor=actor,
            application=grant.application,
            subject=grant,
            **({"reason": reason} if reason else {}),
        )
    grant.upstream_revocation = (
        upstream.try_to_end(to_end) if to_end else upstream.why_not(grant.provider_config, token)
    )
    Grant.objects.filter(pk=grant.pk).update(upstream_revocation=grant.upstream_revocation)
    grant.refresh_from_db()
    return grant


def revoke_all_of_provider(config: ProviderConfig, actor: Actor) -> None:
    """Erase a configuration's grants, and have them ended at the provider, where it has a way for that.

    Nobody waits for the provider, however many they are: a worker asks it, and asks again for a day.
    """
    erase_all_of_provider(config)
    upstream.hint()


def revoke_all_of_application(application: Application, actor: Actor) -> None:
    """End an application's grants at their providers before they are deleted with it."""
    for config in application.provider_configs.select_related("application"):
        erase_all_of_provider(config)
    # Once for all: each proposal goes on until nothing is due, and would keep a worker from other tasks.
    upstream.hint()


def _token_to_revoke(grant: Grant) -> str | None:
    try:
        return upstream.token_to_end(grant.tokens)
    except GrantTokens.DoesNotExist:
        return None
