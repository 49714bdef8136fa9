"""Store what a consent brought: a new grant, or the same one repaired in place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction

from portal.audit import Actor, record
from portal.encryption import seal
from portal.models import Event
from tokens import schedule
from tokens.clock import database_now
from tokens.models import Confirmation, ConnectSession, Grant, GrantStatus, GrantTokens, Site

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Iterable

    from providers.sites import SiteInfo
    from tokens.exchanged import Exchanged


def store_grant(
    session: ConnectSession, exchanged: Exchanged, *, chosen: Collection[str], actor: Actor
) -> Grant:
    """Store tokens, account and sites in the caller's transaction, and return the grant.

    The same end user with the same account is the same grant: it is repaired in place, its id kept. Another account
    is another grant, which waits for its own confirmation (A17). A new grant is active at once only where the
    portal's login vouches for the person (A5).
    """
    try:
        with transaction.atomic():
            return _store(session, exchanged, chosen, actor)
    except IntegrityError:
        # A second tab stored the same account between our look and our insert: now it is there to be repaired (A18).
        return _store(session, exchanged, chosen, actor)


def _store(session: ConnectSession, exchanged: Exchanged, chosen: Collection[str], actor: Actor) -> Grant:
    grant = (
        Grant.objects.select_for_update()
        .alive()
        .filter(
            provider_config=session.provider_config,
            end_user=session.end_user,
            account_id=exchanged.account.id,
        )
        .first()
    )
    is_new = grant is None
    if grant is None:
        grant = Grant(
            application=session.application,
            provider_config=session.provider_config,
            end_user=session.end_user,
            account_id=exchanged.account.id,
        )
    was_pending = not is_new and grant.status == GrantStatus.PENDING
    now = database_now()
    is_vouched_for = session.confirmation == Confirmation.LOGIN or (
        not is_new and grant.status != GrantStatus.PENDING
    )
    if is_vouched_for:
        grant.status = GrantStatus.ACTIVE
        grant.confirmed_at = grant.confirmed_at or now
    grant.label = session.label or grant.label
    grant.account_name, grant.account_email = exchanged.account.name, exchanged.account.email
    grant.requested_scopes = list(exchanged.requested)
    grant.granted_scopes = list(
        exchanged.tokens.scopes if exchanged.tokens.scopes is not None else exchanged.requested
    )
    grant.consented_at = now
    _begin_life(grant, exchanged, now)
    grant.search_text = search_text(grant, (site for site in exchanged.sites if site.cloud_id in chosen))
    grant.save(force_insert=is_new)
    _store_tokens(grant, exchanged)
    before, after = _store_sites(grant, exchanged, chosen)
    event = Event.GRANT_CONNECTED if is_new else Event.GRANT_RECONNECTED
    if was_pending and is_vouched_for:
        event = Event.GRANT_CONFIRMED
    record(
        event,
        actor=actor,
        application=session.application,
        subject=grant,
        provider=session.provider_config.provider_id,
        account=exchanged.account.id,
        sites=[site.name for site in exchanged.sites if site.cloud_id in chosen],
        missing_scopes=grant.missing_scopes,
    )
    if before and before.keys() != after.keys():
        record(
            Event.GRANT_SITES_CHANGED,
            actor=actor,
            application=session.application,
            subject=grant,
            added=[name for cloud_id, name in after.items() if cloud_id not in before],
            removed=[name for cloud_id, name in before.items() if cloud_id not in after],
        )
    return grant


def _begin_life(grant: Grant, exchanged: Exchanged, now: dt.datetime) -> None:
    """Set the clocks of a grant that has just been given, and forget what was wrong with it."""
    policy = grant.provider_config.spec.refresh
    lifetime = schedule.access_lifetime(policy, exchanged.tokens)
    grant.access_expires_at = exchanged.received_at + lifetime if lifetime else None
    grant.refreshed_at = now
    grant.idle_deadline = now + policy.idle_limit if policy.idle_limit else None
    grant.absolute_deadline = now + policy.absolute_limit if policy.absolute_limit else None
    # Whatever is in flight for the earlier tokens is fenced off by the generation.
    grant.gen += 1
    grant.claim_owner = grant.claim_until = grant.inflight_gen = grant.inflight_since = None
    grant.fail_count, grant.fail_outcome, grant.cause = 0, "", ""
    grant.next_attempt_at = grant.ended_at = None
    # An imported one is looked at no more: that would take the place of what the person has chosen.
    grant.undiscovered_since = None
    plan_refresh(grant, now)


def plan_refresh(grant: Grant, now: dt.datetime) -> None:
    """Set when a grant is due, from when its access token expires; saving is the caller's."""
    grant.refresh_due_at = due_at(grant, now)


def due_at(grant: Grant, now: dt.datetime) -> dt.datetime | None:
    """Return when a grant is due by its configuration's policy; None if never. tokens/accept.py has the same in SQL."""
    if grant.status != GrantStatus.ACTIVE or not grant.access_expires_at or not grant.refreshed_at:
        return None
    config, issued = grant.provider_config, grant.refreshed_at
    policy = config.spec.refresh
    fresh = schedule.due_after(policy, grant.pk, grant.access_expires_at - issued)
    last_used = max((at for at in (grant.used_at, grant.consented_at) if at), default=None)
    if config.keeps_fresh(last_used, now):
        return issued + fresh
    idle = schedule.idle_due_after(policy, grant.pk, fresh)
    return None if idle is None else issued + idle


def search_text(grant: Grant, sites: Iterable[Site | SiteInfo]) -> str:
    """Return what the search field looks in, of a grant with these sites."""
    names = [f"{site.name} {site.url}" for site in sites]
    parts = [grant.end_user, grant.label, grant.account_name, grant.account_email, grant.account_id, *names]
    return " ".join(part for part in parts if part).lower()


def _store_tokens(grant: Grant, exchanged: Exchanged) -> None:
    tokens = GrantTokens(grant=grant)
    seal(tokens, "access_token", exchanged.tokens.access_token)
    seal(tokens, "refresh_token", exchanged.tokens.refresh_token)
    # A consent that brings no refresh token, as at providers that give it only once, keeps the one there is.
    fields = ["access_token", "refresh_token"] if exchanged.tokens.refresh_token else ["access_token"]
    GrantTokens.objects.bulk_create(
        [tokens], update_conflicts=True, unique_fields=["grant"], update_fields=fields
    )


def _store_sites(
    grant: Grant, exchanged: Exchanged, chosen: Collection[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Put the sites of this consent in the place of the earlier ones; return those it was for, and is for, by id."""
    sites = Site.objects.filter(grant=grant)
    before = dict(sites.filter(is_chosen=True).values_list("cloud_id", "name"))
    sites.delete()
    Site.objects.bulk_create(
        Site(
            grant=grant,
            cloud_id=site.cloud_id,
            name=site.name,
            url=site.url,
            products=list(site.products),
            scopes=list(site.scopes),
            is_chosen=site.cloud_id in chosen,
        )
        for site in exchanged.sites
    )
    return before, {site.cloud_id: site.name for site in exchanged.sites if site.cloud_id in chosen}
