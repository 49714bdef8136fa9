"""A back end with an API key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from portal import api_keys
from portal.audit import SYSTEM
from portal.models.api_keys import KeyPermission
from tests.tokens.api.conformance import check
from tests.tokens.api.hot_client import HotClient

if TYPE_CHECKING:
    from django.test import Client

    from portal.models import Application


# What differs between two answers that are the same otherwise: a link is sealed anew each time.
_LINK = re.compile(rb'"reconnect_(?:url|expires_at)": "[^"]+", ')


def without_link(body: bytes) -> bytes:
    """Return a problem document without its reconnect link."""
    return _LINK.sub(b"", body)


class Caller:
    """Calls the API as a program does: a key in the header, JSON both ways, no cookies kept.

    Each answer is held against the OpenAPI document.
    """

    # As in production, the hot path included; `Client` goes the ordinary way alone.
    client_class: type[Client] = HotClient
    # Other spellings are let in, too, but only the ordinary way.
    scheme = "Bearer"

    def __init__(self, application: Application, *permissions: str, provider_ids: list[str] | None = None):
        self.key, self.text = api_keys.create(
            application,
            name="back end",
            permissions=permissions or KeyPermission.values,
            provider_ids=provider_ids or [],
            actor=SYSTEM,
        )

    def get(self, path: str, **query: Any) -> Any:
        """GET an address below /api/v1/."""
        return self.call("get", path, query)

    def post(self, path: str, **fields: Any) -> Any:
        """POST a JSON object."""
        return self.call("post", path, fields, content_type="application/json")

    def put(self, path: str, **fields: Any) -> Any:
        """PUT a JSON object."""
        return self.call("put", path, fields, content_type="application/json")

    def patch(self, path: str, **fields: Any) -> Any:
        """PATCH with a JSON object."""
        return self.call("patch", path, fields, content_type="application/json")

    def delete(self, path: str) -> Any:
        """DELETE."""
        return self.call("delete", path)

    def call(self, method: str, path: str, *args: Any, is_checked: bool = True, **options: Any) -> Any:
        """Make any call, with the key. What meets a fault of ours on purpose is not checked."""
        options.setdefault("headers", {"Authorization": f"{self.scheme} {self.text}"})
        # As in production: a POST without a CSRF token must get through by its key.
        client = self.client_class(enforce_csrf_checks=True)
        response = getattr(client, method)(f"/api/v1/{path}", *args, **options)
        if is_checked:
            check(response)
        return response

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        """Send a body as it is, with any method."""
        sent = {"Authorization": f"{self.scheme} {self.text}", **headers}
        return self.client_class(enforce_csrf_checks=True).generic(
            method, f"/api/v1/{path}", body, headers=sent
        )
