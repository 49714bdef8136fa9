"""Grants whose tokens the sandbox knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.factories import CLIENT_SECRET, GrantFactory, ProviderConfigFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread
    from tokens.models import Grant


@pytest.fixture
def config(db: None, sandbox: SandboxThread) -> ProviderConfig:
    """Return Atlassian, configured, with its client registered at the sandbox."""
    config = ProviderConfigFactory()
    sandbox.register_client(config.client_id, CLIENT_SECRET)
    return config


@pytest.fixture
def connect(config: ProviderConfig, sandbox: SandboxThread) -> Callable[..., Grant]:
    """Return a function that makes a grant with tokens from the sandbox; keywords go to the factory."""

    def make(**fields: Any) -> Grant:
        minted = sandbox.mint(
            fields.get("provider_config", config).client_id, account=fields.pop("account", "jo")
        )[0]
        fields.setdefault("provider_config", config)
        return GrantFactory(
            access_token=minted["access_token"],
            refresh_token=minted["refresh_token"],
            account_id=minted["account_id"],
            **fields,
        )

    return make
