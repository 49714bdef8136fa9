"""What a broken answer looks like on the wire, fault by fault."""

import asyncio
import json
from typing import Any, Protocol

from aiohttp import web

from providers.sandbox.replies import json_reply, server_error_page


class Order(Protocol):
    """What there is to know about a fault here."""

    @property
    def kind(self) -> str: ...

    @property
    def options(self) -> dict[str, Any]: ...


class Pausing(Protocol):
    """Who can wait without keeping the server alive."""

    stopping: asyncio.Event

    async def pause(self, request: web.Request, seconds: float) -> None: ...


async def broken_answer(  # noqa: C901 - one case a fault
    pausing: Pausing, fault: Order, request: web.Request, response: web.StreamResponse | None
) -> web.StreamResponse:
    options = fault.options
    body = _body_of(response)
    match fault.kind:
        case "timeout_before" | "timeout_after":
            await pausing.pause(request, options.get("seconds", 300))
            return _hang_up(request)
        case "drop_before_commit" | "drop_after_commit":
            return _hang_up(request)
        case "status_before" | "status_after":
            return _status(options)
        case "throttle":
            return _status({"status": 429, "retry_after": 30, **options})
        case "redirect":
            return web.Response(status=options.get("status", 307), headers={"Location": options["url"]})
        case "html_200":
            return server_error_page(200)
        case "empty":
            return web.Response(body=b"", content_type="application/json")
        case "null_token":
            parsed = {**_json_of(body), options.get("field", "access_token"): None}
            return json_reply(parsed)
        case "truncated":
            return await _truncated(request, body, is_quiet=options.get("quiet", False))
        case "oversized":
            return await _oversized(request, body, options.get("bytes", 10_000_000))
        case "slow_loris":
            return await _slow(pausing, request, body, options.get("ms", 1000) / 1000)
    raise ValueError(f"There is no fault {fault.kind!r}.")


async def _slow(pausing: Pausing, request: web.Request, body: bytes, pause: float) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Content-Length": str(len(body))}
    )
    await response.prepare(request)
    for at in range(len(body)):
        if pausing.stopping.is_set() or is_gone(request):
            return _hang_up(request)
        await response.write(body[at : at + 1])
        await pausing.pause(request, pause)
    return response


def is_gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _hang_up(request: web.Request) -> web.Response:
    """Close the connection without (the rest of) an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _status(options: dict[str, Any]) -> web.Response:
    status = options["status"]
    headers = {"Retry-After": str(options["retry_after"])} if "retry_after" in options else {}
    if options.get("html"):
        return server_error_page(status, headers=headers)
    body = options.get("body", {"code": status, "message": f"Sandbox fault {status}"})
    return json_reply(body, status=status, headers=headers)


def _body_of(response: web.StreamResponse | None) -> bytes:
    """Return the body of the answer that the fault breaks; a made-up one when the call was not carried out."""
    if isinstance(response, web.Response) and isinstance(response.body, bytes):
        return response.body
    return b'{"access_token":"made-up","token_type":"Bearer","expires_in":3600,"refresh_token":"made-up"}'


def _json_of(body: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


async def _truncated(request: web.Request, body: bytes, *, is_quiet: bool) -> web.StreamResponse:
    """Send half of the body; quietly, as if it were whole, or with the length that the whole would have."""
    half = body[: len(body) // 2]
    if is_quiet:
        return web.Response(body=half, content_type="application/json")
    response = web.StreamResponse(
        headers={"Content-Type": "application/json", "Content-Length": str(len(body))}
    )
    await response.prepare(request)
    await response.write(half)
    if request.transport is not None:
        # close, not abort: what was written still goes out.
        request.transport.close()
    return response


async def _oversized(request: web.Request, body: bytes, size: int) -> web.StreamResponse:
    """Send the good answer with so much behind it that nobody should read to the end."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    chunk = b" " * 65_536
    try:
        await response.write(body)
        for _ in range(max(0, size - len(body)) // len(chunk) + 1):
            await response.write(chunk)
    except ConnectionError:
        return _hang_up(request)
    return response
