"""A few Jira calls: enough to see a token work, to page, to write, and to meet Jira's refusals."""

import json
import re
from typing import Any

from aiohttp import web

from providers.sandbox.gateway import Bearer, product
from providers.sandbox.keys import CALL, STATE
from providers.sandbox.people import Account, Site
from providers.sandbox.replies import json_reply
from providers.sandbox.state import State

PROJECTS = {"WEB": ("10000", "Website"), "OPS": ("10001", "Operations")}
SUMMARIES = (
    "Make the start page faster",
    "Write down how we deploy",
    "Answer the auditor",
    "Rotate the keys",
)
# Issues that each site has from the start.
FIRST_ISSUES = 12
MAX_PAGE = 100
READ_WORK = ("read:jira-work", "read:issue:jira", "read:project:jira")


@product("jira")
async def server_info(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET serverInfo needs no scope: the best way to see whether a cloud id is alive."""
    return json_reply(
        {
            "baseUrl": site.url,
            "version": "1001.0.0-SNAPSHOT",
            "deploymentType": "Cloud",
            "serverTitle": f"Jira of {site.name}",
            "serverTime": int(request.app[STATE].now() * 1000),
        }
    )


@product("jira", "read:jira-user", "read:user:jira")
async def myself(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET myself: the account as Jira shows it."""
    return json_reply(_person(request, bearer.account) | {"active": True, "timeZone": "Europe/Berlin"})


@product("jira", *READ_WORK)
async def project_search(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET project/search, paged by startAt and maxResults."""
    projects = [_project(request, site, key) for key in PROJECTS]
    start, size = _number(request, "startAt", 0), _page_size(request)
    return json_reply(
        {
            "startAt": start,
            "maxResults": size,
            "total": len(projects),
            "isLast": start + size >= len(projects),
            "values": projects[start : start + size],
        }
    )


@product("jira", *READ_WORK)
async def search_jql(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET or POST search/jql: `project = KEY` is understood; pages are chained by nextPageToken."""
    order = await _order(request) if request.method == "POST" else dict(request.query)
    jql = str((order or {}).get("jql", ""))
    if not jql.strip():
        return _refuse(
            "Unbounded JQL queries are not allowed here. Please add a search restriction to your query."
        )
    wanted = re.search(r'\bproject\s*=\s*"?(\w+)"?', jql, re.IGNORECASE)
    found = [
        issue
        for issue in issues_of(request.app[STATE], site)
        if wanted is None or str(issue["key"]).startswith(f"{wanted[1].upper()}-")
    ]
    start = _page_start(str((order or {}).get("nextPageToken", "")))
    if start is None:
        return _refuse("The provided next page token is invalid or expired.")
    size = _page_size(request, (order or {}).get("maxResults"))
    page: dict[str, Any] = {"issues": [_issue(request, site, issue) for issue in found[start : start + size]]}
    if start + size < len(found):
        page["nextPageToken"] = f"page-{start + size}"
    return json_reply(page | {"isLast": start + size >= len(found)})


@product("jira", *READ_WORK)
async def search_gone(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET or POST search: removed by Atlassian; search/jql took its place."""
    message = "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API."
    return json_reply({"errorMessages": [message], "errors": {}}, status=410)


@product("jira", "write:jira-work", "write:issue:jira")
async def create_issue(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """POST issue: needs a project's key, a summary and an issue type, like the real one."""
    order = await _order(request)
    fields = (order or {}).get("fields")
    if not isinstance(fields, dict):
        return _refuse("fields is required.")
    errors = {}
    project = fields.get("project")
    key = project.get("key") if isinstance(project, dict) else None
    if key not in PROJECTS:
        errors["project"] = "Specify a valid project ID or key"
    if not isinstance(fields.get("summary"), str) or not fields["summary"].strip():
        errors["summary"] = "You must specify a summary of the issue."
    if not isinstance(fields.get("issuetype"), dict):
        errors["issuetype"] = "Specify an issue type"
    if errors:
        return json_reply({"errorMessages": [], "errors": errors}, status=400)

    known = issues_of(request.app[STATE], site)
    number = 1 + sum(str(issue["key"]).startswith(f"{key}-") for issue in known)
    issue: dict[str, object] = {
        "id": str(20_000 + len(known)),
        "key": f"{key}-{number}",
        "summary": fields["summary"],
        "reporter": bearer.account.slug,
    }
    known.append(issue)
    request[CALL].committed = True
    self_url = _self(request, site, f"issue/{issue['id']}")
    return json_reply({"id": issue["id"], "key": issue["key"], "self": self_url}, status=201)


@product("jira", *READ_WORK)
async def read_issue(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET issue/{key or id}; what is not there, and what one may not see, look the same."""
    name = request.match_info["key"]
    for issue in issues_of(request.app[STATE], site):
        if name in (issue["key"], issue["id"]):
            return json_reply(_issue(request, site, issue))
    message = "Issue does not exist or you do not have permission to see it."
    return json_reply({"errorMessages": [message], "errors": {}}, status=404)


@product("jira")
async def not_for_oauth(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """Everything else of Jira: the sandbox has it not."""
    message = f"OAuth 2.0 is not enabled for method: {request.method} {request.path}"
    return json_reply({"errorMessages": [message], "errors": {}}, status=403)


def issues_of(state: State, site: Site) -> list[dict[str, object]]:
    """Return the issues of a site, made up at the first look."""
    if site.cloud_id not in state.issues:
        keys = list(PROJECTS)
        state.issues[site.cloud_id] = [
            {
                "id": str(10_000 + number),
                "key": f"{keys[number % 2]}-{number // 2 + 1}",
                "summary": SUMMARIES[number % len(SUMMARIES)],
                "reporter": "jo",
            }
            for number in range(FIRST_ISSUES)
        ]
    return state.issues[site.cloud_id]


def routes() -> list[web.RouteDef]:
    """Return the routes below /ex/jira/{cloud_id}/."""
    base = "/ex/jira/{cloud_id}/rest/api/3"
    return [
        web.get(f"{base}/serverInfo", server_info),
        web.get(f"{base}/myself", myself),
        web.get(f"{base}/project/search", project_search),
        web.get(f"{base}/search/jql", search_jql),
        web.post(f"{base}/search/jql", search_jql),
        web.get(f"{base}/search", search_gone),
        web.post(f"{base}/search", search_gone),
        web.post(f"{base}/issue", create_issue),
        web.get(f"{base}/issue/{{key}}", read_issue),
        web.route("*", "/ex/jira/{cloud_id}/{rest:.*}", not_for_oauth),
    ]


async def _order(request: web.Request) -> dict[str, Any] | None:
    try:
        order = json.loads(await request.read())
    except ValueError:
        return None
    return order if isinstance(order, dict) else None


def _refuse(message: str) -> web.Response:
    return json_reply({"errorMessages": [message], "errors": {}}, status=400)


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 10 else default


def _page_size(request: web.Request, given: object = None) -> int:
    wanted = given if isinstance(given, int) else _number(request, "maxResults", 50)
    return min(max(1, wanted), MAX_PAGE)


def _page_start(token: str) -> int | None:
    match = re.fullmatch(r"page-(\d{1,9})", token)
    if match:
        return int(match[1])
    return None if token else 0


def _self(request: web.Request, site: Site, path: str) -> str:
    return f"{request.url.origin()}/ex/jira/{site.cloud_id}/rest/api/3/{path}"


def _person(request: web.Request, account: Account) -> dict[str, Any]:
    person: dict[str, Any] = {
        "accountId": account.account_id,
        "accountType": "atlassian",
        "displayName": account.name,
        "emailAddress": account.email,
    }
    if request.app[STATE].switches.hide_email:
        del person["emailAddress"]
    return person


def _project(request: web.Request, site: Site, key: str) -> dict[str, Any]:
    number, name = PROJECTS[key]
    self_url = _self(request, site, f"project/{number}")
    return {"id": number, "key": key, "name": name, "projectTypeKey": "software", "self": self_url}


def _issue(request: web.Request, site: Site, issue: dict[str, object]) -> dict[str, Any]:
    return {
        "id": issue["id"],
        "key": issue["key"],
        "self": _self(request, site, f"issue/{issue['id']}"),
        "fields": {
            "summary": issue["summary"],
            "status": {"name": "To Do"},
            "issuetype": {"name": "Task"},
            "project": _project(request, site, str(issue["key"]).partition("-")[0]),
        },
    }
