"""Fixtures for security tests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.security.admin_world import superuser, world  # noqa: F401


@pytest.fixture
def loopback_allowed(settings: Any) -> None:
    """Let requests go to this machine, without TLS."""
    settings.EGRESS_PLAIN_HTTP = True
    settings.EGRESS_PRIVATE_HOSTS = ["127.0.0.1"]
