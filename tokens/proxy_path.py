"""Which address a call through the proxy goes to: the caller gives a site, a product and a path, never a host (E1).

The web server decodes a path before anybody sees it, so a `/` inside a part comes as `%252F`, and is `%2F` here and at the
provider. It is held to the same rules as the `/` that somebody may take it for. Nothing else is left encoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from providers.catalog_loader import catalog
from tokens.errors import BadPathError, NoSuchSiteError

if TYPE_CHECKING:
    from providers.spec import ProviderSpec
    from tokens.models import Grant, Site

# Stands for the only site of a connection that reaches one.
ONLY_SITE = "-"
# Signs that mean something in a path and arrive as they were sent.
_KEPT = "/-._~!$&'()*+,;=:@"
_BAD = re.compile(
    r"""(?x)
    [\\?#\x00-\x1f\x7f]      # another server's separator, ours, or no sign at all
    | %[0-9A-Fa-f]{2}        # encoded twice
    | /[ ]*/                 # a part that is empty, or the beginning of a host
    | ^[ ]*[/@]              # the same
    | ^[A-Za-z][\w+.-]*:/    # a whole address
    | (?:^|/)[ ]*\.{1,2}[ ]*(?:;|/|$)    # a way up, also as "..;"; some servers trim blanks
    """
)
_SLASH_INSIDE = re.compile(r"(%2[Ff])")
_QUERY = re.compile(r"[!\"$-~]*")


@dataclass(frozen=True)
class Target:
    """Where a call goes. `path` is without the query, for the audit log."""

    cloud_id: str
    product: str
    path: str
    base_url: str
    url: str


def target_of(grant: Grant, *, site: str, product: str, path: str, query: str) -> Target:
    """Return where a call goes. `path` is decoded, `query` is not. Raises BadPathError or NoSuchSiteError."""
    if not is_honest(path, query):
        raise BadPathError
    found = _site(grant, site)
    spec = catalog()[grant.provider_config.provider_id]
    names = {slug(name): name for name in found.products if name in spec.site_base_urls}
    if product not in names:
        raise _no_such_site(grant)
    return target_at(spec, names[product], cloud_id=found.cloud_id, path=path, query=query)


def is_honest(path: str, query: str) -> bool:
    """Tell whether a path, decoded, and a query, as it was sent, surely lead nowhere else."""
    return not _BAD.search(_SLASH_INSIDE.sub("/", path)) and bool(_QUERY.fullmatch(query))


def target_at(spec: ProviderSpec, product: str, *, cloud_id: str, path: str, query: str) -> Target:
    """Return where a call goes, all of it checked. `product` is the provider's name of it."""
    base_url = spec.site_base_urls[product].replace("{cloud_id}", quote(cloud_id, safe=""))
    parts = _SLASH_INSIDE.split(path)
    parts[::2] = [quote(part, safe=_KEPT) for part in parts[::2]]
    url = f"{base_url}/{''.join(parts)}"
    return Target(cloud_id, slug(product), f"/{path}", base_url, f"{url}?{query}" if query else url)


def as_sent(path: str) -> str:
    """Return a path at a provider as the proxy wants it, where the provider leads there itself."""
    return _SLASH_INSIDE.sub(lambda slash: f"%25{slash[0][1:]}", path)


def slug(product: str) -> str:
    """Return a product's name as it stands in an address: "jira-service-management"."""
    return product.lower().replace(" ", "-")


def _site(grant: Grant, wanted: str) -> Site:
    sites = [site for site in grant.sites.all() if site.is_chosen]
    if wanted == ONLY_SITE:
        found = sites
    else:
        found = [site for site in sites if site.cloud_id == wanted] or [
            site for site in sites if site.name.lower() == wanted.lower()
        ]
    if len(found) != 1:
        raise _no_such_site(grant)
    return found[0]


def _no_such_site(grant: Grant) -> NoSuchSiteError:
    return NoSuchSiteError(
        sites=[
            {"cloud_id": site.cloud_id, "name": site.name, "products": [slug(name) for name in site.products]}
            for site in grant.sites.all()
            if site.is_chosen
        ]
    )
