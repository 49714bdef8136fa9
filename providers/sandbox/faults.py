"""Faults on command: what a network and a provider in trouble do to a call."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from aiohttp import web

from providers.sandbox.broken_answers import broken_answer, is_gone
from providers.sandbox.ledger import Call
from providers.sandbox.parameters import ParameterError, credentials, read_parameters

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

# kind -> whether the call is carried out (a token is spent, say) although the answer is broken.
COMMITS = {
    "latency": True,
    "timeout_before": False,
    "timeout_after": True,
    "drop_before_commit": False,
    "drop_after_commit": True,
    "status_before": False,
    "status_after": True,
    "throttle": False,
    "redirect": False,
    "html_200": False,
    "truncated": True,
    "oversized": True,
    "slow_loris": True,
    "empty": True,
    "null_token": True,
}
_OPTIONS = {
    "commit": bool,
    "status": int,
    "body": dict,
    "html": bool,
    "retry_after": (int, str),
    "url": str,
    "ms": (int, float),
    "seconds": (int, float),
    "after": bool,
    "bytes": int,
    "field": str,
    "quiet": bool,
}


class FaultError(ValueError):
    """A fault that was asked for in a way that makes no sense."""


@dataclass(slots=True)
class Fault:
    """One order: break `times` answers (-1: all) on the path `on`."""

    kind: str
    on: str = "/oauth/token"
    times: int = 1
    # Let this many matching calls pass first.
    skip: int = 0
    # Chance that a matching call is hit.
    rate: float = 1.0
    grant_type: str = ""
    # Hit only the token requests of this client.
    client_id: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def commits(self) -> bool:
        return bool(self.options.get("commit", COMMITS[self.kind]))

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "on": self.on,
            "times": self.times,
            "skip": self.skip,
            "rate": self.rate,
            "grant_type": self.grant_type,
            "client_id": self.client_id,
            **self.options,
        }


def parse_fault(order: dict[str, Any]) -> Fault:
    """Read an order. Raises FaultError with a sentence for the caller."""
    options = dict(order)
    kind = options.pop("kind", None)
    if kind not in COMMITS:
        raise FaultError(f"There is no fault {kind!r}. The faults are: {', '.join(COMMITS)}.")
    fault = Fault(kind)
    expected: dict[str, type | tuple[type, ...]] = {
        "on": str,
        "times": int,
        "skip": int,
        "rate": (int, float),
        "grant_type": str,
        "client_id": str,
    }
    for name, types in expected.items():
        if name in options:
            setattr(fault, name, _typed(name, options.pop(name), types))
    for name, value in options.items():
        if name not in _OPTIONS:
            raise FaultError(f"A fault has no option {name!r}. The options are: {', '.join(_OPTIONS)}.")
        fault.options[name] = _typed(name, value, _OPTIONS[name])
    if kind == "redirect" and "url" not in fault.options:
        raise FaultError("redirect needs url: where to send the caller.")
    if kind in ("status_before", "status_after"):
        status = fault.options.setdefault("status", 503)
        if not 200 <= status <= 599:
            raise FaultError(f"status must be from 200 to 599, not {status}.")
    return fault


def _typed(name: str, value: Any, types: Any) -> Any:
    if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
        raise FaultError(f"{name} cannot be {value!r}.")
    return value


class Faults:
    """The orders that wait, and what carries them out."""

    def __init__(self) -> None:
        self.waiting: list[Fault] = []
        # Set when the server stops, so that no hanging answer keeps it alive.
        self.stopping = asyncio.Event()

    async def take(self, request: web.Request) -> list[Fault]:
        """Return what hits this call: all matching latencies, and the first of the other kinds."""
        hits: list[Fault] = []
        for fault in list(self.waiting):
            if not _matches_path(fault.on, request.path):
                continue
            if fault.kind != "latency" and any(hit.kind != "latency" for hit in hits):
                continue
            if not await _matches_order(fault, request):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.rate < 1 and random.random() >= fault.rate:  # noqa: S311 - chance, not a secret
                continue
            if fault.times > 0:
                fault.times -= 1
            if fault.times == 0 and fault in self.waiting:
                self.waiting.remove(fault)
            hits.append(fault)
        return hits

    async def apply(
        self, hits: list[Fault], request: web.Request, handler: Handler, call: Call
    ) -> web.StreamResponse:
        """Answer the call the way the faults want it."""
        call.fault = ",".join(fault.kind for fault in hits)
        fault = next((hit for hit in hits if hit.kind != "latency"), None)
        await self._delay(request, hits, is_after=False)
        response = None
        if fault is None or fault.commits:
            response = await handler(request)
        else:
            call.outcome = "fault"
        await self._delay(request, hits, is_after=True)
        if fault is None:
            assert response is not None
            return response
        return await broken_answer(self, fault, request, response)

    async def _delay(self, request: web.Request, hits: list[Fault], *, is_after: bool) -> None:
        delays = [
            hit for hit in hits if hit.kind == "latency" and hit.options.get("after", False) is is_after
        ]
        await self.pause(request, sum(hit.options.get("ms", 1000) for hit in delays) / 1000)

    async def pause(self, request: web.Request, seconds: float) -> None:
        """Wait, but not longer than the caller and the server are there."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        # Polled, because nothing tells us that a caller has hung up.
        while (left := end - clock()) > 0 and not self.stopping.is_set() and not is_gone(request):  # noqa: ASYNC110
            await asyncio.sleep(min(left, 0.05))


def _matches_path(pattern: str, path: str) -> bool:
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern


async def _matches_order(fault: Fault, request: web.Request) -> bool:
    """Tell whether the token request is one of those that the fault is for."""
    if not (fault.grant_type or fault.client_id):
        return True
    try:
        parameters = await read_parameters(request)
    except ParameterError:
        return False
    client_id, _ = credentials(request, parameters)
    return fault.grant_type in ("", parameters.get("grant_type")) and fault.client_id in ("", client_id)
