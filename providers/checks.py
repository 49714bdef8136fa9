"""System checks of the catalog."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from providers.catalog_loader import CatalogError, catalog


@register()
def check_catalog(**kwargs: Any) -> list[CheckMessage]:
    """providers.E001: every catalog file can be read."""
    try:
        catalog()
    except CatalogError as error:
        return [Error(str(error), id="providers.E001")]
    return []


@register()
def check_sandbox_url(**kwargs: Any) -> list[CheckMessage]:
    """providers.E002: SANDBOX_URL is an origin, if set."""
    if settings.SANDBOX_URL:
        url = urlsplit(settings.SANDBOX_URL)
        if url.scheme not in {"http", "https"} or not url.hostname or url.path:
            return [
                Error(
                    "SANDBOX_URL must be an origin such as http://127.0.0.1:8001, without a path.",
                    id="providers.E002",
                )
            ]
    return []
