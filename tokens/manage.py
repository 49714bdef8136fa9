"""Links to an end user's own page: made by the application, kept by the first browser that opens one."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models import Case, When
from django.db.models.functions import Now
from django.urls import reverse

from portal.audit import Actor, record
from portal.models import Event
from portal.models.applications import digest
from portal.models.audit import ActorKind
from tokens.clock import database_now
from tokens.errors import BadReturnUrlError
from tokens.models import Grant, GrantStatus, ManageLink
from tokens.sessions import is_allowed_return_url

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection

    from django.db.models import QuerySet

    from portal.models import Application

# The application sends its user there at once; what leaks into a log or a chat is over soon.
LINK_LIFETIME = timedelta(minutes=10)
# How long the page stays open in its browser.
PAGE_LIFETIME = timedelta(hours=1)


def make_link(
    application: Application,
    *,
    end_user: str,
    provider_ids: Collection[str] = (),
    return_url: str = "",
    actor: Actor,
) -> tuple[ManageLink, str]:
    """Make a link and return it with its token, which is not stored and can't be read again.

    Raises BadReturnUrlError.
    """
    if return_url and not is_allowed_return_url(application, return_url):
        raise BadReturnUrlError
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        link = ManageLink.objects.create(
            application=application,
            end_user=end_user,
            provider_ids=sorted(provider_ids),
            return_url=return_url,
            link_digest=digest(token),
            expires_at=database_now() + LINK_LIFETIME,
        )
        record(
            Event.MANAGE_LINK_CREATED,
            actor=actor,
            application=application,
            subject=link,
            subject_name=end_user,
        )
    return link, token


def manage_url(token: str) -> str:
    """Return the address of a link, on PUBLIC_URL."""
    return str(settings.PUBLIC_URL) + reverse("manage-open", args=[token])


def unopened_link(token: str) -> ManageLink | None:
    """Return a link that no browser has opened yet; looking changes nothing."""
    links = ManageLink.objects.filter(link_digest=digest(token), expires_at__gt=Now(), browser_digest="")
    return links.select_related("application").first()


def open_link(token: str, *, browser: str, ip_address: str | None = None) -> ManageLink | None:
    """Give a link to the browser that opens it first, for an hour; None for every other, and for what is over."""
    found = ManageLink.objects.filter(link_digest=digest(token), expires_at__gt=Now())
    # One statement decides between two browsers.
    is_first = found.filter(browser_digest="").update(
        browser_digest=digest(browser), expires_at=Now() + PAGE_LIFETIME
    )
    link = found.filter(browser_digest=digest(browser)).select_related("application").first()
    if link and is_first:
        record(
            Event.MANAGE_LINK_OPENED,
            actor=Actor(ActorKind.END_USER, link.end_user, link.end_user, ip_address),
            application=link.application,
            subject=link,
            subject_name=link.end_user,
        )
    return link


def link_in_browser(pk: uuid.UUID, *, browser: str) -> ManageLink | None:
    """Return the link that this browser has opened, while its page is open; None for all others."""
    if not browser:
        return None
    mine = ManageLink.objects.filter(pk=pk, browser_digest=digest(browser), expires_at__gt=Now())
    return mine.select_related("application").first()


def grants_of(link: ManageLink) -> QuerySet[Grant]:
    """Return all that the end user has connected in the application, what is over behind what is not."""
    grants = Grant.objects.filter(application=link.application, end_user=link.end_user)
    if link.provider_ids:
        grants = grants.filter(provider_config__provider_id__in=link.provider_ids)
    is_over = Case(When(status=GrantStatus.REVOKED, then=1), default=0)
    return grants.order_by(is_over, "-connected_at", "-id").select_related(
        "application", "provider_config__application"
    )
