"""What data can't say: how a provider tells which sites a token reaches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable


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
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
            raise UnreadableSitesError("an entry without an id")
        listed = entry.get("scopes")
        scopes = {scope for scope in listed if isinstance(scope, str)} if isinstance(listed, list) else set()
        earlier = merged.get(entry["id"])
        if earlier:
            scopes |= set(earlier.scopes)
        url = entry.get("url") if isinstance(entry.get("url"), str) else ""
        merged[entry["id"]] = SiteInfo(
            cloud_id=entry["id"][:128],
            name=str(entry.get("name") or entry["id"])[:200],
            url=url if urlsplit(url).scheme in {"https", "http"} else "",
            products=_products(scopes),
            scopes=tuple(sorted(scopes)),
        )
    return tuple(sorted(merged.values(), key=lambda site: (site.name.lower(), site.cloud_id)))


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
