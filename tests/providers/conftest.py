"""Fixtures for providers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from providers.catalog_loader import catalog

if TYPE_CHECKING:
    from providers.spec import ProviderSpec

CATALOGS = Path(__file__).parent / "catalogs"


@pytest.fixture
def atlassian() -> ProviderSpec:
    """Return the real catalog entry, with the real addresses."""
    return catalog()["atlassian"]


@pytest.fixture
def plain(settings: Any) -> ProviderSpec:
    """Add the made-up second provider to the catalog."""
    settings.PROVIDER_CATALOG_DIRS = [CATALOGS]
    return catalog()["plain"]


@pytest.fixture
def loopback_allowed(settings: Any) -> None:
    """Let requests go to this machine, without TLS."""
    settings.EGRESS_PLAIN_HTTP = True
    settings.EGRESS_PRIVATE_HOSTS = ["127.0.0.1"]
