"""What the API shows: each thing as JSON, field by field, so that nothing new in a model shows itself (D5).

The TypedDicts are what the OpenAPI document says of answers; mypy holds the functions to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypedDict

from django.conf import settings
from django.urls import reverse
from msgspec import Meta

from providers.catalog_loader import catalog
from tokens.clock import database_now
from tokens.failures import ConnectFailedError
from tokens.models.connect import SessionStatus
from tokens.reconnect import reconnect_link
from tokens.sessions import last_return_url

if TYPE_CHECKING:
    import datetime as dt

    from providers.spec import ProviderSpec
    from tokens.hand_out import HandedOut
    from tokens.models import ConnectSession, Grant

Id = Annotated[str, Meta(extra_json_schema={"format": "uuid"})]
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, description="UTC, whole seconds.")]


class Account(TypedDict):
    """The account at the provider. What it does not tell is an empty text."""

    id: str
    name: str
    email: str


class SiteShape(TypedDict):
    """A site that the end user chose."""

    cloud_id: str
    name: str
    url: str
    products: list[str]
    base_urls: Annotated[dict[str, str], Meta(description="By product: where its API is.")]


class GrantShape(TypedDict):
    """What an end user gave; people call it a connection."""

    id: Id
    end_user: Annotated[str, Meta(description="Your own id of the person.")]
    provider: str
    label: str
    metadata: Annotated[dict[str, str], Meta(description="Your own notes.")]
    status: Annotated[
        Literal["pending", "active", "needs_reconnect", "revoked"],
        Meta(description="`pending`: nobody has vouched for the account yet, and no token is handed out."),
    ]
    cause: Annotated[str, Meta(description="Why it needs reconnecting, or last failed.")]
    account: Account
    scopes: list[str]
    missing_scopes: Annotated[list[str], Meta(description="Asked for, and not given.")]
    sites: list[SiteShape]
    connected_at: Time | None
    confirmed_at: Time | None
    refreshed_at: Time | None
    used_at: Annotated[Time | None, Meta(description="When a token was last handed out.")]
    expires_at: Annotated[
        Time | None, Meta(description="When the stored access token runs out; it is refreshed before.")
    ]
    revoked_at: Time | None
    upstream_revocation: Annotated[str, Meta(description="What the provider answered when it was revoked.")]


class GrantPage(TypedDict):
    """Some grants, newest first."""

    grants: list[GrantShape]
    next_cursor: Annotated[
        str | None, Meta(description="Send it as `cursor` for the next page; null: this was the last.")
    ]


class Candidate(TypedDict):
    """One of several grants that fit."""

    id: Id
    status: str
    label: str
    account: Account
    sites: list[SiteShape]


class TokenShape(TypedDict):
    """An access token and all that is needed to use it. Never the refresh token."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_at: Annotated[Time | None, Meta(description="When it runs out by itself; null: never.")]
    use_until: Annotated[Time | None, Meta(description="Until when it surely works. Then ask again.")]
    scopes: list[str]
    sites: list[SiteShape]
    grant: Id


class Failure(TypedDict):
    """Why an attempt to connect failed."""

    code: str
    detail: str


class SessionShape(TypedDict):
    """One attempt to connect."""

    id: Id
    status: Literal["open", "choosing", "done", "failed", "expired"]
    end_user: str
    provider: str
    label: str
    failure: Annotated[
        Failure | None,
        Meta(description="Of the last attempt; while the session is open, another one may follow."),
    ]
    grant: Annotated[Id | None, Meta(description="The grant that it made or repaired.")]
    expires_at: Time | None


class OpenedSession(SessionShape):
    """A new session, with its link."""

    url: Annotated[str, Meta(description="Send the end user's browser there. It is told this once.")]


class ReconnectCall(TypedDict):
    """The call that makes a connect session which repairs the grant, ready to send: it brings the end user back with a code."""

    method: Literal["POST"]
    url: str
    body: Annotated[dict[str, str], Meta(description="Fill in `return_url` if it is empty.")]


class ReconnectWays(TypedDict):
    """How a grant whose access has ended is repaired."""

    reconnect_url: str
    reconnect_expires_at: Time | None
    reconnect: ReconnectCall


class ManageLinkShape(TypedDict):
    """A link to an end user's own page."""

    url: Annotated[str, Meta(description="Send the end user's browser there. It is told this once.")]
    expires_at: Annotated[Time | None, Meta(description="Until then it must be opened.")]


class ImportedRow(TypedDict):
    """What became of one row."""

    row: Annotated[int, Meta(description="Its number in `rows`, from 0.")]
    result: Literal["imported", "exists", "refused"]
    grant: Annotated[Id | None, Meta(description="Null where it was refused, or would be new.")]
    field: Annotated[str | None, Meta(description="What is wrong with it.")]
    detail: str


class ImportResult(TypedDict):
    """What became of each row, and how many came to what."""

    dry_run: bool
    imported: int
    exists: int
    refused: int
    rows: list[ImportedRow]


class ExportedGrant(GrantShape):
    """A grant with its refresh token."""

    refresh_token: str | None
    problem: Annotated[
        Literal["refresh_in_progress", "no_refresh_token", "unreadable_token"] | None,
        Meta(description="Why there is no refresh token."),
    ]


class ExportPage(TypedDict):
    """Some grants with their refresh tokens."""

    grants: list[ExportedGrant]
    next_cursor: str | None


class Party(TypedDict):
    """Who did something, or what it was done to."""

    kind: str
    id: str
    name: str


class AuditEventShape(TypedDict):
    """One thing that was done."""

    id: str
    at: Time | None
    event: str
    actor: Party
    ip_address: str | None
    subject: Party
    detail: dict[str, Any]
    request_id: str


class AuditPage(TypedDict):
    """Some events, newest first."""

    events: list[AuditEventShape]
    next_cursor: str | None


class ProblemShape(TypedDict):
    """What went wrong, and what is needed to recover (RFC 9457)."""

    type: Annotated[str, Meta(description="Where the code is explained.")]
    title: str
    status: int
    detail: Annotated[str, Meta(description="What happened and what to do, for people.")]
    code: Annotated[str, Meta(description="Stable: decide by it.")]
    field: NotRequired[Annotated[str, Meta(description="The field that is wrong.")]]
    retry_after: NotRequired[Annotated[int, Meta(description="Seconds after which to ask again.")]]
    reconnect_url: NotRequired[
        Annotated[str, Meta(description="Send the end user's browser there: the same account repairs it.")]
    ]
    reconnect_expires_at: NotRequired[
        Annotated[Time | None, Meta(description="Until when it is good. The next answer has a new one.")]
    ]
    reconnect: NotRequired[ReconnectCall]
    candidates: NotRequired[list[Candidate]]
    missing_permission: NotRequired[str]
    ip_address: NotRequired[str | None]
    allow: NotRequired[list[str]]
    providers: NotRequired[Annotated[list[str], Meta(description="Those that must be switched off first.")]]


def grant_shape(grant: Grant) -> GrantShape:
    """Return a grant: who, with which account, for which sites, and how it stands."""
    return {
        "id": str(grant.pk),
        "end_user": grant.end_user,
        "provider": grant.provider_config.provider_id,
        "label": grant.label,
        "metadata": grant.metadata,
        "status": grant.status,  # type: ignore[typeddict-item]
        "cause": grant.cause,
        "account": {"id": grant.account_id, "name": grant.account_name, "email": grant.account_email},
        "scopes": grant.granted_scopes,
        "missing_scopes": grant.missing_scopes,
        "sites": sites_shape(grant),
        "connected_at": time_shape(grant.connected_at),
        "confirmed_at": time_shape(grant.confirmed_at),
        "refreshed_at": time_shape(grant.refreshed_at),
        "used_at": time_shape(grant.used_at),
        "expires_at": time_shape(grant.access_expires_at),
        "revoked_at": time_shape(grant.revoked_at),
        "upstream_revocation": grant.upstream_revocation,
    }


def candidate_shape(grant: Grant) -> Candidate:
    """Return what tells one of several grants from the others."""
    whole = grant_shape(grant)
    return {
        "id": whole["id"],
        "status": whole["status"],
        "label": whole["label"],
        "account": whole["account"],
        "sites": whole["sites"],
    }


def token_shape(handed_out: HandedOut) -> TokenShape:
    """Return an access token with all that is needed to use it. Never the refresh token."""
    return token_body(
        access_token=handed_out.access_token,
        expires_at=time_shape(handed_out.expires_at),
        use_until=time_shape(handed_out.use_until),
        scopes=handed_out.grant.granted_scopes,
        sites=sites_shape(handed_out.grant),
        grant=str(handed_out.grant.pk),
    )


def token_body(
    *,
    access_token: str,
    expires_at: str | None,
    use_until: str | None,
    scopes: list[str],
    sites: list[SiteShape],
    grant: str,
) -> TokenShape:
    """Return the same from its parts; the hot path has no models."""
    return {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_at": expires_at,
        "use_until": use_until,
        "scopes": scopes,
        "sites": sites,
        "grant": grant,
    }


def session_shape(session: ConnectSession) -> SessionShape:
    """Return a connect session, without its link: that was shown when it was made."""
    status: Any = session.status
    if status in (SessionStatus.OPEN, SessionStatus.CHOOSING) and session.is_expired(database_now()):
        status = "expired"
    failure: Failure | None = None
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
        "expires_at": time_shape(session.expires_at),
    }


def reconnect_shape(grant: Grant, *, given_to: str) -> ReconnectWays:
    """Return the link that repairs a grant, and the call that does it with a code, but for a return URL that is not known."""
    url, expires_at = reconnect_link(grant, given_to=given_to)
    call: ReconnectCall = {
        "method": "POST",
        "url": settings.PUBLIC_URL + reverse("api-grant-reconnect", args=[grant.pk]),
        "body": {"return_url": last_return_url(grant)},
    }
    return {"reconnect_url": url, "reconnect_expires_at": time_shape(expires_at), "reconnect": call}


def sites_shape(grant: Grant) -> list[SiteShape]:
    """Return the sites that the end user chose, each with the base URLs of its products."""
    spec = catalog().get(grant.provider_config.provider_id)
    return [
        site_shape(spec, site.cloud_id, site.name, site.url, site.products)
        for site in grant.sites.all()
        if site.is_chosen
    ]


def site_shape(
    spec: ProviderSpec | None, cloud_id: str, name: str, url: str, products: list[str]
) -> SiteShape:
    """Return a site with the base URLs of its products."""
    templates = spec.site_base_urls if spec else {}
    base_urls = {
        product: templates[product].replace("{cloud_id}", cloud_id)
        for product in products
        if product in templates
    }
    return {"cloud_id": cloud_id, "name": name, "url": url, "products": products, "base_urls": base_urls}


def time_shape(at: dt.datetime | None) -> str | None:
    """Return a time as RFC 3339 has it, in UTC and whole seconds: cut, so that it is never later than it is."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else None
