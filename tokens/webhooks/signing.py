"""Sign a message as Standard Webhooks has it (https://www.standardwebhooks.com), by its reference library."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

from standardwebhooks import Webhook

from portal.encryption import unseal

if TYPE_CHECKING:
    import datetime as dt

    from portal.models import WebhookEndpoint

# The specification asks for 24 to 64.
SECRET_BYTES = 32


def new_secret() -> str:
    """Return a new signing secret, with the prefix by which secret scanners know it."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def secrets_of(endpoint: WebhookEndpoint, at: dt.datetime) -> list[str]:
    """Return the secrets that sign at a time: the new one, and an earlier one while it lasts (F3).

    Raises UnreadableError.
    """
    found = [unseal(endpoint, "secret")]
    if endpoint.earlier_secret_until and endpoint.earlier_secret_until > at:
        found.append(unseal(endpoint, "earlier_secret"))
    return [secret for secret in found if secret]


def signed_headers(public_id: str, body: str, *, at: dt.datetime, secrets: list[str]) -> dict[str, str]:
    """Return the three headers of a message; `at` must be in UTC."""
    signatures = [Webhook(secret).sign(public_id, at, body) for secret in secrets]
    return {
        "webhook-id": public_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
