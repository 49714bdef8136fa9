"""/_sandbox/…: what tests and demos use to steer the sandbox and to see what it saw."""

import hmac
import json
from dataclasses import fields
from typing import Any

from aiohttp import web

from providers.sandbox import chains
from providers.sandbox.faults import FaultError, Faults, parse_fault
from providers.sandbox.keys import FAULTS, STATE
from providers.sandbox.ledger import Call
from providers.sandbox.people import ACCOUNTS, MADE_UP_PREFIX, SITES, find_account
from providers.sandbox.replies import json_reply
from providers.sandbox.state import ATLASSIAN, AuthorizeRequest, Client, State
from providers.sandbox.switches import SwitchError
from providers.sandbox.tokens import digest

MAX_MINTED = 100_000


class ControlError(ValueError):
    """A control call that makes no sense; the text goes to the caller."""


def is_allowed(request: web.Request, token: str) -> bool:
    """Check the control token, where one is set."""
    expected = f"Bearer {token}"
    given = request.headers.get("Authorization", "")
    return not token or hmac.compare_digest(given.encode(), expected.encode())


async def read_order(request: web.Request) -> dict[str, Any]:
    """Return the JSON object of a control call. Raises ControlError."""
    try:
        order = json.loads(await request.read() or b"{}")
    except ValueError as error:
        raise ControlError("The body must be a JSON object.") from error
    if not isinstance(order, dict):
        raise ControlError("The body must be a JSON object.")
    return order


async def ledger(request: web.Request) -> web.StreamResponse:
    """GET: the calls, oldest first (?path=, ?since=); DELETE: forget them."""
    state = request.app[STATE]
    if request.method == "DELETE":
        state.ledger.clear()
        return json_reply({"calls": []})
    since = request.query.get("since", "0")
    if not since.isdecimal():
        raise ControlError("since must be the number of a call.")
    return json_reply({"calls": state.ledger.listing(path=request.query.get("path", ""), since=int(since))})


async def switches(request: web.Request) -> web.StreamResponse:
    """GET: all switches; POST: change some of them."""
    state = request.app[STATE]
    if request.method == "POST":
        try:
            state.switches = state.switches.with_changes(await read_order(request))
        except SwitchError as error:
            raise ControlError(str(error)) from error
    return json_reply(state.switches.as_dict())


async def faults(request: web.Request) -> web.StreamResponse:
    """GET: the orders that wait; POST: add one; DELETE: forget them all."""
    waiting = request.app[FAULTS].waiting
    if request.method == "DELETE":
        waiting.clear()
    elif request.method == "POST":
        try:
            waiting.append(parse_fault(await read_order(request)))
        except FaultError as error:
            raise ControlError(str(error)) from error
    return json_reply({"faults": [fault.as_dict() for fault in waiting]})


async def clock(request: web.Request) -> web.StreamResponse:
    """GET: the time; POST {"move": seconds}: move it, back with a negative number."""
    state = request.app[STATE]
    if request.method == "POST":
        move = (await read_order(request)).get("move")
        if isinstance(move, bool) or not isinstance(move, (int, float)):
            raise ControlError("move must be a number of seconds.")
        state.clock_offset += move
    return json_reply({"now": state.now(), "offset": state.clock_offset})


async def clients(request: web.Request) -> web.StreamResponse:
    """POST: register a client, or register it anew."""
    order = await read_order(request)
    client_id, secret = order.get("client_id"), order.get("client_secret")
    if not isinstance(client_id, str) or not client_id or not isinstance(secret, str) or not secret:
        raise ControlError("A client needs client_id and client_secret.")
    client = Client(client_id, name=str(order.get("name", "")), secret_digest=digest(secret))
    client.redirect_uris = _texts(order, "redirect_uris")
    client.scopes = _texts(order, "scopes")
    client.shared = order.get("shared", True) is True
    state = request.app[STATE]
    state.register(client)
    state.version += 1
    return json_reply({"client_id": client_id}, status=201)


async def mint(request: web.Request) -> web.StreamResponse:
    """POST: make `count` grants without a browser, each of an account of its own; for benchmarks and set-ups."""
    state, order = request.app[STATE], await read_order(request)
    count = order.get("count", 1)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_MINTED:
        raise ControlError(f"count must be from 1 to {MAX_MINTED}.")
    client = state.client(str(order.get("client_id", "")))
    if client is None:
        raise ControlError("client_id is missing or not registered.")
    first = order.get("first", 0)
    if isinstance(first, bool) or not isinstance(first, int):
        raise ControlError("first must be a whole number.")
    scopes = str(order.get("scope", "offline_access read:me read:jira-user read:jira-work")).split()
    issuer_url = str(request.url.origin())
    minted = []
    for number in range(count):
        slug = str(order.get("account") or f"{MADE_UP_PREFIX}{first + number}")
        account = find_account(slug)
        if account is None:
            raise ControlError(f"There is no account {slug!r}. There are {', '.join(ACCOUNTS)} and user-….")
        asked = AuthorizeRequest(ATLASSIAN, client.client_id, "", scopes, None, "", state.now())
        sites = [site.cloud_id for site in account.sites]
        grant = state.give(asked, account=slug, scopes=scopes, sites=sites)
        pair = chains.start(
            state, grant, Call(0, state.now(), "POST", "/_sandbox/mint"), issuer_url=issuer_url
        )
        minted.append(
            {
                "account": slug,
                "account_id": account.account_id,
                "access_token": pair.access_token,
                "refresh_token": pair.refresh_token,
                "expires_in": int(state.switches.access_ttl),
                "scope": " ".join(sorted(scopes)),
            }
        )
    return json_reply({"grants": minted}, status=201)


async def revoke_grant(request: web.Request) -> web.StreamResponse:
    """POST {account, client_id}: the person removes the app."""
    state, order = request.app[STATE], await read_order(request)
    issuer = order.get("issuer", ATLASSIAN)
    grant = state.grants.get(
        state.living.get((issuer, order.get("client_id", ""), order.get("account", "")), "")
    )
    if grant is None:
        raise ControlError("That account has given nothing to that client.")
    state.take_back(grant)
    return json_reply({"revoked": grant.id})


async def honours(request: web.Request) -> web.StreamResponse:
    """POST {refresh_tokens: [digest, …]}: why each would be refused now; "" if it would be honoured."""
    state, order = request.app[STATE], await read_order(request)
    digests = _texts(order, "refresh_tokens")
    return json_reply({"refusals": {name: chains.refusal_of(state, name) for name in digests}})


async def reset(request: web.Request) -> web.StreamResponse:
    """POST: forget everything and go back to the switches of the start."""
    request.app[STATE].reset()
    request.app[FAULTS].waiting.clear()
    return json_reply({"reset": True})


async def describe_state(request: web.Request) -> web.StreamResponse:
    """GET: accounts, sites, clients, grants and chains as they are now, without any secret."""
    return json_reply(_snapshot(request.app[STATE], request.app[FAULTS]))


def _snapshot(state: State, orders: Faults) -> dict[str, Any]:
    newest = {token.family_id: name for name, token in state.refresh_tokens.items() if token.spent_at is None}
    return {
        "now": state.now(),
        "clock_offset": state.clock_offset,
        "switches": state.switches.as_dict(),
        "faults": [fault.as_dict() for fault in orders.waiting],
        "calls": len(state.ledger.calls),
        "accounts": [
            {
                "slug": account.slug,
                "account_id": account.account_id,
                "name": account.name,
                "email": account.email,
                "sites": [site.cloud_id for site in account.sites],
            }
            for account in ACCOUNTS.values()
        ],
        "sites": [
            {"cloud_id": site.cloud_id, "name": site.name, "url": site.url, "products": list(site.products)}
            for site in SITES.values()
        ],
        "clients": [
            {
                "client_id": client.client_id,
                "name": client.name,
                "redirect_uris": client.redirect_uris,
                "scopes": client.scopes,
                "shared": client.shared,
                "registered": not client.is_pinned,
            }
            for client in state.clients.values()
        ],
        "grants": [
            {item.name: getattr(grant, item.name) for item in fields(grant)}
            for grant in state.grants.values()
        ],
        "families": [
            {
                "id": family.id,
                "grant_id": family.grant_id,
                "dead": family.dead,
                "newest_refresh_token": newest.get(family.id, ""),
            }
            for family in state.families.values()
        ],
    }


def _texts(order: dict[str, Any], name: str) -> list[str]:
    value = order.get(name, [])
    if isinstance(value, str):
        value = value.split()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ControlError(f"{name} must be a list of texts.")
    return value
