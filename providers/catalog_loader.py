"""Read catalog files into `ProviderSpec`.

A provider is data: one TOML file in providers/catalog/, or in a folder that PROVIDER_CATALOG_DIRS names.
docs/providers.md tells what each field means.
"""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings

from providers.catalog_fields import read_spec
from providers.catalog_reader import CatalogError, Reader
from providers.spec import ProviderSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from providers.spec import Endpoint

__all__ = ["Catalog", "CatalogError", "UnknownProviderError", "catalog", "in_sandbox", "load"]

BUILT_IN = Path(__file__).parent / "catalog"


class UnknownProviderError(KeyError):
    """There is no catalog file for a provider id."""

    def __str__(self) -> str:
        return f"There is no provider '{self.args[0]}' in the catalog."


class Catalog(dict[str, ProviderSpec]):
    """All providers by id."""

    def __missing__(self, provider_id: str) -> ProviderSpec:
        raise UnknownProviderError(provider_id)


def catalog() -> Catalog:
    """Return all providers by id, in the sandbox's place where SANDBOX_URL is set. Raises CatalogError."""
    return _catalog(
        tuple(settings.PROVIDER_CATALOG_DIRS), settings.SANDBOX_URL, plain_http=settings.EGRESS_PLAIN_HTTP
    )


@functools.cache
def _catalog(folders: tuple[Path, ...], sandbox_url: str, *, plain_http: bool) -> Catalog:
    specs = Catalog()
    for file in _files([BUILT_IN, *folders]):
        spec = load(file, plain_http=plain_http)
        if spec.id in specs:
            raise CatalogError(
                f"{file}: id '{spec.id}' is taken by another catalog file; give it an id of its own."
            )
        specs[spec.id] = in_sandbox(spec, sandbox_url) if sandbox_url and spec.has_sandbox else spec
    return specs


def _files(folders: Iterable[Path]) -> Iterable[Path]:
    for folder in folders:
        if not folder.is_dir():
            raise CatalogError(f"PROVIDER_CATALOG_DIRS names {folder}, which is not a folder.")
        yield from sorted(folder.glob("*.toml"))


def in_sandbox(spec: ProviderSpec, sandbox_url: str) -> ProviderSpec:
    """Return the same provider with every address that we or people's browsers go to on the sandbox, path kept."""
    base = urlsplit(sandbox_url)

    def moved(url: str) -> str:
        return urlunsplit((base.scheme, base.netloc, urlsplit(url).path, "", "")) if url else ""

    def moved_endpoint(endpoint: Endpoint | None) -> Endpoint | None:
        return dataclasses.replace(endpoint, url=moved(endpoint.url)) if endpoint else None

    return dataclasses.replace(
        spec,
        authorize_url=moved(spec.authorize_url),
        token_url=moved(spec.token_url),
        refresh_url=moved(spec.refresh_url),
        userinfo=moved_endpoint(spec.userinfo),
        sites=moved_endpoint(spec.sites),
        site_base_urls={product: moved(url) for product, url in spec.site_base_urls.items()},
        revoke=moved_endpoint(spec.revoke),
        revoke_page=moved(spec.revoke_page),
    )


def load(file: Path, *, plain_http: bool = False) -> ProviderSpec:
    """Read one catalog file. Raises CatalogError naming the file, the field, and what is expected."""
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise CatalogError(f"{file}: cannot be read as TOML: {error}") from None
    reader = Reader(file, table, plain_http=plain_http)
    spec = read_spec(reader)
    reader.finish()
    return spec
