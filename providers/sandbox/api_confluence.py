"""A few Confluence calls: version 1 with classic scopes, version 2 with granular ones."""

import json
from typing import Any

from aiohttp import web

from providers.sandbox.gateway import Bearer, product
from providers.sandbox.keys import CALL, STATE
from providers.sandbox.people import Site
from providers.sandbox.replies import json_reply
from providers.sandbox.state import State

SPACES = {"TEAM": (65_537, "Team"), "DOCS": (65_538, "Documentation")}
TITLES = ("Welcome", "How we work", "Release notes")
MAX_PAGE = 100


@product("confluence", "read:confluence-user", "read:user:confluence")
async def current_user(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET user/current: needs a scope that the usual sets leave out."""
    account = bearer.account
    return json_reply(
        {
            "type": "known",
            "accountId": account.account_id,
            "accountType": "atlassian",
            "displayName": account.name,
            "publicName": account.slug,
        }
    )


@product("confluence", "read:confluence-space.summary")
async def spaces_v1(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET space."""
    return json_reply(_page_v1(request, [_space_v1(key) for key in SPACES]))


@product("confluence", "read:confluence-space.summary")
async def space_v1(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET space/{key}."""
    key = request.match_info["key"]
    if key in SPACES:
        return json_reply(_space_v1(key))
    return json_reply({"statusCode": 404, "message": f"No space with key : {key}"}, status=404)


@product("confluence", "read:confluence-content.all", "read:confluence-content.summary")
async def contents_v1(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET content, of one space with ?spaceKey=."""
    wanted = request.query.get("spaceKey")
    contents = [
        _content_v1(site, content)
        for content in contents_of(request.app[STATE], site)
        if wanted in (None, content["space"])
    ]
    return json_reply(_page_v1(request, contents))


@product("confluence", "read:confluence-content.all")
async def content_v1(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET content/{id}, with its text."""
    for content in contents_of(request.app[STATE], site):
        if content["id"] == request.match_info["id"]:
            return json_reply(_content_v1(site, content, with_body=True))
    return _not_found_v1()


@product("confluence", "write:confluence-content")
async def create_content_v1(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """POST content: a page or blog post with a title, in a space."""
    try:
        order = json.loads(await request.read())
    except (ValueError, RecursionError):
        order = None
    space = order.get("space") if isinstance(order, dict) else None
    key = space.get("key") if isinstance(space, dict) else None
    if not isinstance(order, dict) or not isinstance(order.get("title"), str) or key not in SPACES:
        return json_reply({"statusCode": 400, "message": "title and space.key are needed."}, status=400)
    contents = contents_of(request.app[STATE], site)
    if any(content["title"] == order["title"] and content["space"] == key for content in contents):
        message = (
            "A page with this title already exists: A page already exists with the same TITLE in this space"
        )
        return json_reply({"statusCode": 400, "message": message}, status=400)
    content: dict[str, object] = {
        "id": str(300_000 + len(contents)),
        "space": key,
        "title": order["title"],
        "type": order.get("type", "page"),
        "body": _storage_text(order),
    }
    contents.append(content)
    request[CALL].committed = True
    return json_reply(_content_v1(site, content, with_body=True))


@product("confluence", "read:space:confluence")
async def spaces_v2(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET v2 spaces: only a granular scope opens it."""
    return json_reply(_page_v2(request, [_space_v2(key) for key in SPACES]))


@product("confluence", "read:space:confluence")
async def space_v2(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET v2 spaces/{id}."""
    for key, (number, _) in SPACES.items():
        if str(number) == request.match_info["id"]:
            return json_reply(_space_v2(key))
    return _not_found_v2()


@product("confluence", "read:page:confluence")
async def pages_v2(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET v2 pages: only a granular scope opens it."""
    pages = [
        _content_v2(content) for content in contents_of(request.app[STATE], site) if content["type"] == "page"
    ]
    return json_reply(_page_v2(request, pages))


@product("confluence", "read:page:confluence")
async def page_v2(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET v2 pages/{id}; its text comes with ?body-format=storage."""
    for content in contents_of(request.app[STATE], site):
        if content["id"] == request.match_info["id"] and content["type"] == "page":
            body = {}
            if request.query.get("body-format") == "storage":
                body = {"storage": {"value": content["body"], "representation": "storage"}}
            return json_reply(_content_v2(content) | {"body": body})
    return _not_found_v2()


@product("confluence")
async def not_for_oauth(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """Everything else of Confluence: the sandbox has it not."""
    message = f"OAuth 2.0 is not enabled for method: {request.method} {request.path}"
    return json_reply({"statusCode": 403, "message": message}, status=403)


def contents_of(state: State, site: Site) -> list[dict[str, object]]:
    """Return the pages of a site, made up at the first look."""
    if site.cloud_id not in state.contents:
        state.contents[site.cloud_id] = [
            {
                "id": str(200_000 + number),
                "space": list(SPACES)[number % 2],
                "title": f"{title} at {site.name}",
                "type": "page",
                "body": f"<p>{title}</p>",
            }
            for number, title in enumerate(TITLES)
        ]
    return state.contents[site.cloud_id]


def routes() -> list[web.RouteDef]:
    """Return the routes below /ex/confluence/{cloud_id}/; version 2 also without /wiki, as documented."""
    base = "/ex/confluence/{cloud_id}"
    found = [
        web.get(f"{base}/wiki/rest/api/user/current", current_user),
        web.get(f"{base}/wiki/rest/api/space", spaces_v1),
        web.get(f"{base}/wiki/rest/api/space/{{key}}", space_v1),
        web.get(f"{base}/wiki/rest/api/content", contents_v1),
        web.post(f"{base}/wiki/rest/api/content", create_content_v1),
        web.get(f"{base}/wiki/rest/api/content/{{id}}", content_v1),
    ]
    for prefix in (f"{base}/wiki/api/v2", f"{base}/api/v2"):
        found += [
            web.get(f"{prefix}/spaces", spaces_v2),
            web.get(f"{prefix}/spaces/{{id}}", space_v2),
            web.get(f"{prefix}/pages", pages_v2),
            web.get(f"{prefix}/pages/{{id}}", page_v2),
        ]
    return [*found, web.route("*", f"{base}/{{rest:.*}}", not_for_oauth)]


def _storage_text(order: dict[str, Any]) -> str:
    body = order.get("body")
    storage = body.get("storage") if isinstance(body, dict) else None
    value = storage.get("value") if isinstance(storage, dict) else None
    return value if isinstance(value, str) else ""


def _space_v1(key: str) -> dict[str, Any]:
    number, name = SPACES[key]
    return {"id": number, "key": key, "name": name, "type": "global", "status": "current"}


def _space_v2(key: str) -> dict[str, Any]:
    return _space_v1(key) | {"id": str(SPACES[key][0])}


def _content_v2(content: dict[str, object]) -> dict[str, Any]:
    space_id = str(SPACES[str(content["space"])][0])
    return {"id": content["id"], "title": content["title"], "spaceId": space_id, "status": "current"}


def _content_v1(site: Site, content: dict[str, object], *, with_body: bool = False) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": content["id"],
        "type": content["type"],
        "status": "current",
        "title": content["title"],
        "space": {"key": content["space"]},
        "_links": {"base": f"{site.url}/wiki", "webui": f"/spaces/{content['space']}/pages/{content['id']}"},
    }
    if with_body:
        shown["body"] = {"storage": {"value": content["body"], "representation": "storage"}}
    return shown


def _numbers(request: web.Request) -> tuple[int, int]:
    start, limit = request.query.get("start", "0"), request.query.get("limit", "25")
    return (
        int(start) if start.isdecimal() and len(start) < 10 else 0,
        min(max(1, int(limit) if limit.isdecimal() and len(limit) < 10 else 25), MAX_PAGE),
    )


def _page_v1(request: web.Request, items: list[dict[str, Any]]) -> dict[str, Any]:
    start, limit = _numbers(request)
    shown = items[start : start + limit]
    return {"results": shown, "start": start, "limit": limit, "size": len(shown), "_links": {}}


def _page_v2(request: web.Request, items: list[dict[str, Any]]) -> dict[str, Any]:
    """Cut a page; the link to the next one carries a cursor."""
    cursor, (_, limit) = request.query.get("cursor", ""), _numbers(request)
    start = int(cursor) if cursor.isdecimal() and len(cursor) < 10 else 0
    links = {}
    if start + limit < len(items):
        links["next"] = f"{request.path}?{request.url.update_query(cursor=start + limit).query_string}"
    return {"results": items[start : start + limit], "_links": links}


def _not_found_v1() -> web.Response:
    return json_reply({"statusCode": 404, "message": "No content found with id"}, status=404)


def _not_found_v2() -> web.Response:
    error = {"status": 404, "code": "NOT_FOUND", "title": "Not Found", "detail": None}
    return json_reply({"errors": [error]}, status=404)
