"""Django's test client, with what stands in front of Django in production: the hot path."""

from __future__ import annotations

from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from django.test import Client
from django.test.client import ClientHandler

from tokens.api.hot_path import HotPath


class _Handler(ClientHandler):
    """Asks the hot path first. What it answered says so in `is_hot`."""

    def __init__(self, enforce_csrf_checks: bool) -> None:
        super().__init__(enforce_csrf_checks)
        self.hot_path = HotPath(self._django)

    def _django(self, environ: dict[str, Any], start_response: Any) -> Any:
        response = super().__call__(environ)
        start_response(f"{response.status_code}", list(response.items()))
        return [response.content]

    def __call__(self, environ: dict[str, Any]) -> Any:
        answer = self.hot_path.at_once(environ)
        if answer is None:
            response: Any = super().__call__(environ)
        else:
            headers, body = answer
            response = HttpResponse(body, headers=dict(headers))
            response.wsgi_request = WSGIRequest(environ)
        response.is_hot = answer is not None
        return response


class HotClient(Client):
    """A client of the web process as it runs in production."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.handler = _Handler(self.handler.enforce_csrf_checks)
