"""Small template helpers: names, times and the menu."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from django import template
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from django.template.context import Context

    from portal.models import Application

register = template.Library()

ACCENTS = ("blue", "green", "violet", "orange", "grey")
# Longer ago than this, a date says more than a number of days.
RELATIVE_FOR = timedelta(days=30)


@register.filter
def initial(name: str) -> str:
    """Return the first letter of a name, for an avatar."""
    return name.strip()[:1].upper() or "?"


@register.filter
def accent_for(name: str) -> str:
    """Return one of the accent names, the same for the same name on every machine."""
    return ACCENTS[zlib.crc32(name.encode()) % len(ACCENTS)]


@register.filter
def when(at: datetime | None) -> str:
    """Say a time as people do: "in 41 min", "3 min ago", "3 March 2025"; "never" for None."""
    if at is None:
        return "never"
    ahead = at - timezone.now()
    if abs(ahead) > RELATIVE_FOR:
        return f"{at.astimezone(UTC):%-d %B %Y}"
    seconds = round(abs(ahead).total_seconds())
    if seconds < 5:
        return "just now"
    amount = _amount(seconds)
    return f"in {amount}" if ahead > timedelta() else f"{amount} ago"


@register.filter
def planned(at: datetime | None) -> str:
    """Say when something will be tried: as `when` does, and "now" once that time has come, for it is not over."""
    is_ahead = at is None or at - timezone.now() >= timedelta(seconds=5)
    return when(at) if is_ahead else "now"


@register.filter
def exactly(at: datetime | None) -> str:
    """Say a time to the second, in UTC: "2025-03-03 09:12:33 UTC"."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if at else ""


@register.filter
def machine_time(at: datetime | None) -> str:
    """Return a time for a `datetime` attribute, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" if at else ""


@register.filter
def milliseconds(time: timedelta) -> str:
    """Say how long something took: "1,204 ms"."""
    return f"{round(time / timedelta(milliseconds=1)):,} ms"


# In this order: Edge says that it is Chrome too, and Chrome that it is Safari.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


@register.filter
def browser(user_agent: str) -> str:
    """Say which browser sent a User-Agent header, as well as one can tell: "Firefox on Linux"."""
    name = next((name for sign, name in _BROWSERS if sign in user_agent), "")
    system = next((name for sign, name in _SYSTEMS if sign in user_agent), "")
    if name and system:
        return f"{name} on {system}"
    return name or system or "Another program"


def _amount(seconds: int) -> str:
    if seconds < 90:
        return f"{seconds} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    if seconds < 36 * 3600:
        return f"{round(seconds / 3600)} h"
    return f"{round(seconds / 86400)} days"


class MenuItem(NamedTuple):
    """One line of an application's menu."""

    label: str
    url: str
    is_current: bool


# Label, address, the prefixes of the page names below it, and the permission without which it stays away.
_MENU = (
    ("Overview", "application-overview", ("application-overview",), ""),
    ("OAuth Providers", "provider-list", ("provider-",), ""),
    ("Connections", "grant-list", ("grant-",), ""),
    ("Connect", "connect-guide", ("connect-guide",), ""),
    ("Webhooks", "webhook-list", ("webhook-",), ""),
    ("API Keys", "api-key-list", ("api-key-",), "MANAGE_APPLICATION"),
    ("Health", "health", ("health",), ""),
    ("Members", "member-list", ("member-", "invitation-"), ""),
    ("Audit log", "audit-log", ("audit-",), "VIEW_AUDIT"),
    ("Settings", "application-settings", ("application-",), "MANAGE_APPLICATION"),
)


@register.simple_tag(takes_context=True)
def application_menu(context: Context, application: Application) -> list[MenuItem]:
    """Return the menu of an application, without what the role may not open."""
    match = getattr(context.get("request"), "resolver_match", None)
    here = match.view_name if match else ""
    can: AbstractSet[str] = context.get("can") or set()
    items: list[MenuItem] = []
    found = False
    for label, name, prefixes, permission in _MENU:
        if permission and permission not in can:
            continue
        try:
            url = reverse(name, args=[application.slug])
        except NoReverseMatch:
            continue
        is_current = not found and here.startswith(prefixes)
        found = found or is_current
        items.append(MenuItem(label, url, is_current))
    return items
