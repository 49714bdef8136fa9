"""Find what a call names by an id in its path or fields."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, TypeVar

from tokens.api.problems import NotFoundError

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from providers.models import ProviderConfig
    from tokens.api.door import Call
    from tokens.models import ConnectSession, Grant

    Row = TypeVar("Row", Grant, ConnectSession)


def grant_of(call: Call, text: str) -> Grant:
    """Return one of the key's grants. Raises NotFoundError, the same for somebody else's, unknown, and no id (D1)."""
    return _one(call.grants(), text)


def session_of(call: Call, text: str) -> ConnectSession:
    """Return one of the key's connect sessions. Raises NotFoundError."""
    return _one(call.sessions(), text)


def config_of(call: Call, provider_id: str) -> ProviderConfig:
    """Return the key's configuration of this provider. Raises NotFoundError."""
    config = call.configs().filter(provider_id=provider_id).first()
    if config is None:
        raise NotFoundError("The application has no such provider, or this key may not be used for it.")
    return config


def _one(rows: QuerySet[Row], text: str) -> Row:
    try:
        found = rows.filter(pk=uuid.UUID(text)).first()
    except ValueError:
        found = None
    if found is None:
        raise NotFoundError
    return found
