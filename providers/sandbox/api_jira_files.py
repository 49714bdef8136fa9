"""Jira's attachments: one at each site, as long as the switch `attachment_bytes` says, and made up as it is sent."""

import hmac
import secrets
from collections.abc import AsyncIterator

from aiohttp import web

from providers.sandbox.api_jira_issues import READ_WORK, jira_time, person
from providers.sandbox.gateway import Bearer, product
from providers.sandbox.keys import CALL, STATE
from providers.sandbox.people import Site, account_named
from providers.sandbox.replies import json_reply

NUMBER, NAME, KIND = "10000", "backup.bin", "application/octet-stream"
PART = b"sandbox " * 8192
LINK_SECONDS = 600
_KEY = secrets.token_bytes(32)


@product("jira", *READ_WORK)
async def read_attachment(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET attachment/{id}: what is known of it."""
    if request.match_info["id"] != NUMBER:
        return _not_there(request)
    base, match = request.url.origin(), request.match_info
    self_url = f"{base}/ex/jira/{site.cloud_id}/rest/api/{match['version']}/attachment/{NUMBER}"
    return json_reply(
        {
            "id": int(NUMBER),
            "self": self_url,
            "filename": NAME,
            "author": person(request, account_named("jo")),
            "created": jira_time(0),
            "size": request.app[STATE].switches.attachment_bytes,
            "mimeType": KIND,
            "content": self_url.replace("/attachment/", "/attachment/content/"),
        }
    )


@product("jira", *READ_WORK)
async def read_content(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET attachment/content/{id}: a link elsewhere that needs no token, or with redirect=false the bytes themselves."""
    if request.match_info["id"] != NUMBER:
        return _not_there(request)
    if request.query.get("redirect", "true").lower() == "false":
        return _content(request)
    until = int(request.app[STATE].now()) + LINK_SECONDS
    link = f"{request.url.origin()}/sandbox-media/{site.cloud_id}?until={until}&signature={_sign(site.cloud_id, until)}"
    return web.Response(status=303, headers={"Location": link, "Cache-Control": "no-store"})


async def media(request: web.Request) -> web.StreamResponse:
    """GET such a link: whoever has it has the bytes, for ten minutes."""
    until, signature = request.query.get("until", ""), request.query.get("signature", "")
    is_late = not until.isdecimal() or len(until) > 15 or int(until) < request.app[STATE].now()
    if is_late or not hmac.compare_digest(
        _sign(request.match_info["cloud_id"], int(until)).encode(), signature.encode(errors="replace")
    ):
        request[CALL].outcome = "refused"
        return json_reply({"code": 403, "message": "Forbidden"}, status=403)
    request[CALL].outcome = "ok"
    return _content(request)


def routes() -> list[web.RouteDef]:
    """Return the routes of attachments; those of Jira come before its last one, which takes everything."""
    base = "/ex/jira/{cloud_id}/rest/api/{version:[23]}"
    return [
        web.get(f"{base}/attachment/content/{{id}}", read_content),
        web.get(f"{base}/attachment/{{id}}", read_attachment),
        web.get("/sandbox-media/{cloud_id}", media),
    ]


def _content(request: web.Request) -> web.Response:
    size = request.app[STATE].switches.attachment_bytes
    headers = {
        "Content-Length": str(size),
        "Content-Type": KIND,
        "Content-Disposition": f'attachment; filename="{NAME}"',
    }
    return web.Response(body=_parts(size), headers=headers)


async def _parts(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, len(PART)):
        yield PART[: size - start]


def _sign(cloud_id: str, until: int) -> str:
    return hmac.new(_KEY, f"{cloud_id} {until}".encode(), "sha256").hexdigest()


def _not_there(request: web.Request) -> web.Response:
    message = f"The attachment with id '{request.match_info['id']}' does not exist"
    return json_reply({"errorMessages": [message], "errors": {}}, status=404)
