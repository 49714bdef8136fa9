"""What the API shows: each thing as JSON, field by field, so that nothing new in a model shows itself (D5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.urls import reverse

from providers.catalog_loader import catalog
from tokens.clock import database_now
from tokens.failures import ConnectFailedError
from tokens.models.connect import SessionStatus

if TYPE_CHECKING:
    import datetime as dt

    from providers.spec import ProviderSpec
    from tokens.hand_out import HandedOut
    from tokens.models import ConnectSession, Grant, Site


def grant_shape(grant: Grant) -> dict[str, Any]:
    """Return a grant: who, with which account, for which sites, and how it stands."""
    return {
        "id": str(grant.pk),
        "end_user": grant.end_user,
        "provider": grant.provider_config.provider_id,
        "label": grant.label,
        "status": grant.status,
        "cause": grant.cause,
        "account": {"id": grant.account_id, "name": grant.account_name, "email": grant.account_email},
        "scopes": grant.granted_scopes,
        "missing_scopes": grant.missing_scopes,
        "sites": sites_shape(grant),
        "connected_at": _time(grant.connected_at),
        "confirmed_at": _time(grant.confirmed_at),
        "refreshed_at": _time(grant.refreshed_at),
        "used_at": _time(grant.used_at),
        "expires_at": _time(grant.access_expires_at),
        "revoked_at": _time(grant.revoked_at),
        "upstream_revocation": grant.upstream_revocation,
    }


def candidate_shape(grant: Grant) -> dict[str, Any]:
    """Return what tells one of several grants from the others."""
    whole = grant_shape(grant)
    return {name: whole[name] for name in ("id", "status", "label", "account", "sites")}


def token_shape(handed_out: HandedOut) -> dict[str, Any]:
    """Return an access token with all that is needed to use it. Never the refresh token."""
    return {
        "access_token": handed_out.access_token,
        "token_type": "Bearer",
        "expires_at": _time(handed_out.expires_at),
        "use_until": _time(handed_out.use_until),
        "scopes": handed_out.grant.granted_scopes,
        "sites": sites_shape(handed_out.grant),
        "grant": str(handed_out.grant.pk),
    }


def session_shape(session: ConnectSession) -> dict[str, Any]:
    """Return a connect session, without its link: that was shown when it was made."""
    status = session.status
    if status in (SessionStatus.OPEN, SessionStatus.CHOOSING) and session.is_expired(database_now()):
        status = "expired"
    failure = None
    if session.failure:
        failure = {"code": session.failure, "detail": ConnectFailedError(session.failure).words.admin}
    return {
        "id": str(session.pk),
        "status": status,
        "end_user": session.end_user,
        "provider": session.provider_config.provider_id,
        "label": session.label,
        "failure": failure,
        "grant": str(session.grant_id) if session.grant_id else None,
        "expires_at": _time(session.expires_at),
    }


def reconnect_shape(grant: Grant) -> dict[str, Any]:
    """Return the call that makes a reconnect link, ready to send but for a return URL that is not known."""
    last = grant.connect_sessions.exclude(return_url="").order_by("-created_at").first()
    return {
        "method": "POST",
        "url": settings.PUBLIC_URL + reverse("api-connect-sessions"),
        "body": {
            "end_user": grant.end_user,
            "provider": grant.provider_config.provider_id,
            "reconnect": str(grant.pk),
            "return_url": last.return_url if last else "",
        },
    }


def sites_shape(grant: Grant) -> list[dict[str, Any]]:
    """Return the sites that the end user chose, each with the base URLs of its products."""
    spec = catalog().get(grant.provider_config.provider_id)
    return [_site(site, spec) for site in grant.sites.all() if site.is_chosen]


def _site(site: Site, spec: ProviderSpec | None) -> dict[str, Any]:
    templates = spec.site_base_urls if spec else {}
    base_urls = {
        product: templates[product].replace("{cloud_id}", site.cloud_id)
        for product in site.products
        if product in templates
    }
    return {
        "cloud_id": site.cloud_id,
        "name": site.name,
        "url": site.url,
        "products": site.products,
        "base_urls": base_urls,
    }


def _time(at: dt.datetime | None) -> str | None:
    """Return a time as RFC 3339 has it, in UTC and whole seconds: cut, so that it is never later than it is."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else None
