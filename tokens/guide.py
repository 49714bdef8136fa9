"""The Connect page: what an application still needs, and the code that its developers paste, with its real addresses."""

from __future__ import annotations

import base64
import functools
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html, format_html_join

from portal.models import ApiKey
from portal.models.api_keys import KeyPermission

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portal.models import Application
    from providers.models import ProviderConfig

NEEDED = (KeyPermission.CONNECT, KeyPermission.TOKENS_READ)
# Stands where an application has named no origin of its own yet.
EXAMPLE_ORIGIN = "https://app.example.com"


@dataclass(frozen=True)
class Need:
    """One thing that connecting takes. `permission` is needed to see to it at `url`."""

    is_there: bool
    title: str
    text: str
    url: str
    action: str
    permission: str


@dataclass(frozen=True)
class Snippet:
    """Code to paste; `name` is also the file's name in templates/snippets/, and its anchor."""

    name: str
    label: str
    text: str


SNIPPETS = {
    "html": "HTML: the button on your page",
    "python": "Python: your back end",
    "javascript": "JavaScript: your back end",
    "curl": "curl: by hand",
}


def needs(application: Application, config: ProviderConfig | None) -> list[Need]:
    """Say what is there and what is missing, in the order in which people do it."""
    keys = list(ApiKey.objects.visible_to(application).working())
    if config:
        keys = [key for key in keys if not key.provider_ids or config.provider_id in key.provider_ids]
    missing = [need for need in NEEDED if not any(need in key.permissions for key in keys)]
    slug = application.slug
    return [
        _provider(application, config),
        Need(
            is_there=bool(application.return_origins),
            title="A place to return to",
            text=", ".join(application.return_origins)
            or "Your users come back to an address of yours. Its origin must be allowed.",
            url=reverse("application-settings", args=[slug]),
            action="Add an origin",
            permission="MANAGE_APPLICATION",
        ),
        Need(
            is_there=not missing,
            title="An API key",
            text=format_html("No key for it has {} yet.", _codes(missing))
            if missing
            else format_html("Your back end keeps it as {}.", _codes(["PORTAL_KEY"])),
            url=reverse("api-key-create", args=[slug]),
            action="New API key",
            permission="MANAGE_APPLICATION",
        ),
    ]


def _codes(names: Iterable[str]) -> str:
    """Mark names as such: "<code>connect</code> and <code>tokens:read</code>"."""
    return format_html_join(" and ", "<code>{}</code>", ((name,) for name in names))


def _provider(application: Application, config: ProviderConfig | None) -> Need:
    if config is None:
        return Need(
            is_there=False,
            title="A provider",
            text="There is none yet.",
            url=reverse("provider-gallery", args=[application.slug]),
            action="Add Provider",
            permission="MANAGE_PROVIDERS",
        )
    is_fine = config.is_working and not config.problem_code
    return Need(
        is_there=is_fine,
        title=config.provider_name,
        text="Added and switched on." if is_fine else "It does not work just now.",
        url=config.get_absolute_url(),
        action="See why",
        permission="VIEW",
    )


@dataclass(frozen=True)
class Edition:
    """One edition of connect.js: its name under the portal's address, and what browsers check it by."""

    name: str
    integrity: str


@functools.cache
def connect_js() -> Edition:
    """Return the newest edition. Its file stays there when another comes, for the pages that pin it."""
    content = (settings.WHITENOISE_ROOT / "connect.js").read_bytes()
    return Edition(
        name=f"connect.{hashlib.sha256(content).hexdigest()[:12]}.js",
        integrity=f"sha384-{base64.b64encode(hashlib.sha384(content).digest()).decode()}",
    )


def snippets(application: Application, config: ProviderConfig) -> list[Snippet]:
    """Fill the code in. Nothing in it is secret, and nothing in it needs quoting: slugs and origins are plain ASCII."""
    origin = next(iter(application.return_origins), EXAMPLE_ORIGIN)
    values = {
        "portal": settings.PUBLIC_URL,
        "connect_js": connect_js(),
        "api": settings.PUBLIC_URL + reverse("api-token").removesuffix("/token"),
        "provider": config.provider_id,
        "provider_name": config.provider_name,
        "return_url": f"{origin}/settings",
        "has_jira": "Jira" in config.spec.site_base_urls,
    }
    return [
        Snippet(name, label, render_to_string(f"snippets/{name}.txt", values).strip() + "\n")
        for name, label in SNIPPETS.items()
    ]
