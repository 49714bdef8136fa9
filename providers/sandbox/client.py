"""Speak to a running sandbox over HTTP: steer it, and consent as a person would."""

import json
from html.parser import HTMLParser
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

from providers.sandbox.people import account_named

TIMEOUT_SECONDS = 10


class ConsentRefusedError(Exception):
    """The authorize request ended at the provider; nothing went back to the client."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description


class SandboxClient:
    """A sandbox that runs somewhere on this machine, at `url`."""

    def __init__(self, url: str, *, control_token: str = "") -> None:
        self.url = url
        self._control_token = control_token

    def reset(self) -> None:
        """Forget everything, faults included, and go back to the switches of the start."""
        self._control("POST", "reset")

    def set(self, **switches: Any) -> None:
        """Change switches; docs/sandbox.md lists them."""
        self._control("POST", "switches", switches)

    def fault(self, kind: str, *, on: str = "/oauth/token", times: int = 1, **options: Any) -> None:
        """Break the next answers on a path; times=-1 breaks them all."""
        self._control("POST", "faults", {"kind": kind, "on": on, "times": times, **options})

    def clear_faults(self) -> None:
        """Forget the faults that wait."""
        self._control("DELETE", "faults")

    def ledger(self, path: str = "", *, since: int = 0) -> list[dict[str, Any]]:
        """Return every call since the start, the last reset or clearing, oldest first.

        Only those to path if given, and only those after the call number `since`.
        """
        query = urlencode({"path": path, "since": since})
        calls: list[dict[str, Any]] = self._control("GET", f"ledger?{query}")["calls"]
        return calls

    def clear_ledger(self) -> None:
        """Forget the calls."""
        self._control("DELETE", "ledger")

    def move_clock(self, seconds: float) -> None:
        """Let the sandbox's time pass (or go back, when negative)."""
        self._control("POST", "clock", {"move": seconds})

    def state(self) -> dict[str, Any]:
        """Return accounts, sites, clients, grants and chains as they are now."""
        state: dict[str, Any] = self._control("GET", "state")
        return state

    def refusals(self, digests: list[str]) -> dict[str, str]:
        """Return for each refresh token's digest why it would be refused now, or "" if it would be honoured."""
        answer: dict[str, str] = self._control("POST", "honours", {"refresh_tokens": digests})["refusals"]
        return answer

    def register_client(
        self,
        client_id: str,
        client_secret: str,
        *,
        redirect_uris: list[str] | None = None,
        scopes: list[str] | None = None,
        shared: bool = True,
        name: str = "",
    ) -> None:
        """Register an app; without redirect URIs or scopes, any will do."""
        order = {"client_id": client_id, "client_secret": client_secret, "shared": shared, "name": name}
        self._control(
            "POST", "clients", order | {"redirect_uris": redirect_uris or [], "scopes": scopes or []}
        )

    def mint(self, client_id: str, count: int = 1, **options: Any) -> list[dict[str, Any]]:
        """Make grants without a browser (account=, scope=, first=); return their tokens in clear."""
        order = {"client_id": client_id, "count": count, **options}
        grants: list[dict[str, Any]] = self._control("POST", "mint", order)["grants"]
        return grants

    def revoke_grant(self, account: str, client_id: str) -> None:
        """Let the person remove the app, with all its connections to the account."""
        self._control("POST", "revoke", {"account": account, "client_id": client_id})

    def approve(
        self,
        authorize_url: str,
        *,
        account: str = "jo",
        sites: list[str] | None = None,
        decline: bool = False,
    ) -> str:
        """Do what a browser would: open the consent page, answer it, return where it leads back to.

        sites are names or cloud ids; left out, all sites of the account, or its first one in resource-level mode.
        Raises ConsentRefusedError when the provider keeps the person on a page of its own.
        """
        status, location, text = self._browse("GET", authorize_url)
        if status in (302, 303):
            raise _refused(location)
        form = _ConsentForm()
        form.feed(text)
        if not form.action:
            raise ConsentRefusedError("no_consent_page", f"HTTP {status} without a consent form")
        chosen = sites
        if chosen is None and form.offers_sites:
            chosen = [site.cloud_id for site in account_named(account).sites[:1]]
        fields = [*form.hidden, ("account", account), ("decision", "cancel" if decline else "accept")]
        fields += [("site", site) for site in chosen or []]
        status, location, text = self._browse("POST", urljoin(authorize_url, form.action), fields)
        if status != 302:
            answer = _ConsentForm()
            answer.feed(text)
            raise ConsentRefusedError("consent_refused", answer.problem or f"HTTP {status}")
        if urlsplit(location).path == "/error" and not urlsplit(location).netloc:
            raise _refused(location)
        return location

    def _control(self, method: str, path: str, order: dict[str, Any] | None = None) -> Any:
        body = None if order is None else json.dumps(order).encode()
        request = Request(f"{self.url}/_sandbox/{path}", data=body, method=method)  # noqa: S310
        request.add_header("Content-Type", "application/json")
        if self._control_token:
            request.add_header("Authorization", f"Bearer {self._control_token}")
        try:
            with _opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                return json.load(response)
        except HTTPError as error:
            with error:
                raise ValueError(json.load(error)["error"]) from None

    def _browse(
        self, method: str, url: str, fields: list[tuple[str, str]] | None = None
    ) -> tuple[int, str, str]:
        body = None if fields is None else urlencode(fields).encode()
        request = Request(url, data=body, method=method)  # noqa: S310
        try:
            with _opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                return response.status, "", response.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.headers.get("Location", ""), error.read().decode()


class _KeepRedirects(HTTPRedirectHandler):
    """Follow nothing: the redirect is what the caller wants to see."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


# No proxy from the environment: the sandbox is on this machine.
_opener = build_opener(_KeepRedirects, ProxyHandler({}))


class _ConsentForm(HTMLParser):
    """Reads from the consent page what a browser would send back."""

    def __init__(self) -> None:
        super().__init__()
        self.action = ""
        self.hidden: list[tuple[str, str]] = []
        self.offers_sites = False
        self.problem = ""
        self._is_problem = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and given.get("id") == "consent":
            self.action = given.get("action", "")
        elif tag == "input" and given.get("type") == "hidden":
            self.hidden.append((given["name"], given["value"]))
        elif tag == "input" and given.get("name") == "site":
            self.offers_sites = True
        self._is_problem = given.get("id") == "problem"

    def handle_data(self, data: str) -> None:
        if self._is_problem:
            self.problem += data
            self._is_problem = False


def _refused(location: str) -> ConsentRefusedError:
    query = parse_qs(urlsplit(location).query)
    return ConsentRefusedError(query.get("error", [""])[0], query.get("error_description", [""])[0])
