"""What data can't say: how a provider tells which sites a token reaches."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Callable

# An opaque id, as long as we store it.
_CLOUD_ID = re.compile(r"[\x21-\x7e]{1,128}")
_SCOPE = re.compile(r"[\x21-\x7e]{1,200}")
_ADDRESS = re.compile(r"https?://[^/?#@\\\[\]\s]+([/?#]\S*)?")


@dataclass(frozen=True)
class SiteInfo:
    """One site that a token reaches. `cloud_id` is the provider's id for it, opaque."""

    cloud_id: str
    name: str
    url: str
    products: tuple[str, ...]
    scopes: tuple[str, ...]


class UnreadableSitesError(Exception):
    """The provider's list of sites has another shape than documented."""


def read_atlassian_sites(body: Any) -> tuple[SiteInfo, ...]:
    """Read the bare array of ``/oauth/token/accessible-resources``.

    Jira and Confluence of one site can be two entries with one id, told apart only by their scopes: they are
    merged. The order means nothing, so sites are sorted by name. Raises UnreadableSitesError.
    """
    if not isinstance(body, list):
        raise UnreadableSitesError("not a list")
    merged: dict[str, SiteInfo] = {}
    for entry in body:
        site = _atlassian_site(entry)
        earlier = merged.get(site.cloud_id)
        if earlier:
            scopes = {*earlier.scopes, *site.scopes}
            site = dataclasses.replace(
                earlier,
                url=earlier.url or site.url,
                products=_products(scopes),
                scopes=tuple(sorted(scopes)),
            )
        merged[site.cloud_id] = site
    return tuple(sorted(merged.values(), key=lambda site: (site.name.lower(), site.cloud_id)))


def _atlassian_site(entry: Any) -> SiteInfo:
    cloud_id = entry.get("id") if isinstance(entry, dict) else None
    if not isinstance(cloud_id, str) or not _CLOUD_ID.fullmatch(cloud_id):
        raise UnreadableSitesError("an entry without a usable id")
    listed = entry.get("scopes")
    scopes = {scope for scope in listed if _is_scope(scope)} if isinstance(listed, list) else set()
    return SiteInfo(
        cloud_id=cloud_id,
        name=_line(entry.get("name")) or cloud_id,
        url=_address(entry.get("url")),
        products=_products(scopes),
        scopes=tuple(sorted(scopes)),
    )


def _is_scope(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and _SCOPE.fullmatch(value) is not None


def _line(value: Any) -> str:
    """Return one line of printable text, at most 200 characters: PostgreSQL stores no NUL, a page no line breaks."""
    return (
        "".join(letter for letter in value if letter.isprintable())[:200].strip()
        if isinstance(value, str)
        else ""
    )


def _address(value: Any) -> str:
    """Return an http(s) address that may be shown as a link, or ""."""
    text = _line(value)
    if text != value or not _ADDRESS.fullmatch(text):
        return ""
    return text


def _products(scopes: set[str]) -> tuple[str, ...]:
    products = []
    if any("jira" in scope for scope in scopes):
        products.append("Jira")
    if any("servicedesk" in scope or "servicemanagement" in scope for scope in scopes):
        products.append("Jira Service Management")
    if any("confluence" in scope for scope in scopes):
        products.append("Confluence")
    return tuple(products)


SITE_READERS: dict[str, Callable[[Any], tuple[SiteInfo, ...]]] = {"atlassian": read_atlassian_sites}
