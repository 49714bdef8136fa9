"""A client for the sandbox's tests: plain urllib, so that nothing of ours judges itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

if TYPE_CHECKING:
    from email.message import Message

    from providers.sandbox.thread import SandboxThread

CLIENT_ID = "SandboxClientIdForTheDemo0000000"
SECRET = "ATOAsandbox-client-secret-for-the-demo"
REDIRECT_URI = "http://portal.example/callback?kept=1"
SCOPES = "offline_access read:me read:jira-user read:jira-work read:confluence-content.all"


class _KeepRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_opener = build_opener(_KeepRedirects, ProxyHandler({}))


@dataclass
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(
    url: str,
    *,
    method: str | None = None,
    order: Any = None,
    form: dict[str, str] | None = None,
    bearer: str = "",
    headers: dict[str, str] | None = None,
    timeout: float = 5,
) -> Answer:
    """Make one call; order is sent as JSON."""
    body = None
    headers = dict(headers or {})
    if order is not None:
        body = json.dumps(order).encode()
        headers.setdefault("Content-Type", "application/json")
    elif form is not None:
        body = urlencode(form).encode()
        headers.setdefault("Content-Type", "application/x-www-form-urlencoded")
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    request = Request(url, data=body, headers=headers, method=method)
    try:
        with _opener.open(request, timeout=timeout) as response:
            return Answer(response.status, response.headers, response.read())
    except HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def authorize_url(sandbox: SandboxThread, **changes: str | None) -> str:
    """Return the authorize URL of a well-behaved client; None leaves a parameter out."""
    parameters: dict[str, str | None] = {
        "audience": "api.atlassian.com",
        "client_id": CLIENT_ID,
        "scope": SCOPES,
        "redirect_uri": REDIRECT_URI,
        "state": "the-state",
        "response_type": "code",
        "prompt": "consent",
    }
    parameters.update(changes)
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{sandbox.url}/authorize?{query}"


def query_of(location: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


def get_code(sandbox: SandboxThread, *, account: str = "jo", **changes: str | None) -> str:
    return query_of(sandbox.approve(authorize_url(sandbox, **changes), account=account))["code"]


def post_token(sandbox: SandboxThread, *, timeout: float = 5, **parameters: Any) -> Answer:
    """Post a token request with the demo client's credentials; None leaves a parameter out."""
    order = {"client_id": CLIENT_ID, "client_secret": SECRET, **parameters}
    order = {name: value for name, value in order.items() if value is not None}
    return call(f"{sandbox.url}/oauth/token", order=order, timeout=timeout)


def exchange(sandbox: SandboxThread, code: str, **changes: Any) -> Answer:
    parameters = {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT_URI}
    return post_token(sandbox, **{**parameters, **changes})


def refresh(sandbox: SandboxThread, token: str, **changes: Any) -> Answer:
    return post_token(sandbox, **{"grant_type": "refresh_token", "refresh_token": token, **changes})


def connect(sandbox: SandboxThread, *, account: str = "jo", **changes: str | None) -> dict[str, Any]:
    """Go all the way and return the token answer."""
    answer = exchange(sandbox, get_code(sandbox, account=account, **changes))
    assert answer.status == 200, answer.body
    tokens: dict[str, Any] = answer.json
    return tokens


def cloud_id(sandbox: SandboxThread, name: str) -> str:
    return next(str(site["cloud_id"]) for site in sandbox.state()["sites"] if site["name"] == name)
