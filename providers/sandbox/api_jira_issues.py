"""Jira's issues: search, create, read."""

import json
import re
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from providers.sandbox.gateway import Bearer, product
from providers.sandbox.keys import CALL, STATE
from providers.sandbox.people import Account, Site, account_named
from providers.sandbox.replies import json_reply
from providers.sandbox.state import State

PROJECTS = {"WEB": ("10000", "Website"), "OPS": ("10001", "Operations")}
ISSUE_TYPES = {"Task": "10002", "Bug": "10004"}
# Our issues have no more fields than these.
FIELDS = {
    "summary": "Summary",
    "status": "Status",
    "issuetype": "Issue Type",
    "project": "Project",
    "reporter": "Reporter",
    "assignee": "Assignee",
    "labels": "Labels",
    "description": "Description",
    "created": "Created",
    "updated": "Updated",
}
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
# `field operator …`, which every JQL clause begins with.
_CLAUSE = re.compile(
    r"""\(*\s*(not\s+)?["'\w\[\] ]+?\s*(=|!=|~|<|>|\b((not\s+)?in|was|changed)\b|\bis\s+(not\s+)?(empty|null)\b)""",
    re.IGNORECASE,
)


@product("jira", *READ_WORK)
async def search_jql(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET or POST search/jql: `project = KEY` is understood; pages are chained by nextPageToken.

    As at Atlassian an issue is its id alone unless `fields` asks for more.
    """
    order = (await _order(request) or {}) if request.method == "POST" else dict(request.query)
    restriction = re.split(r"\border\s+by\b", str(order.get("jql", "")), flags=re.IGNORECASE)[0].strip()
    if not restriction:
        return _refuse(
            "Unbounded JQL queries are not allowed here. Please add a search restriction to your query."
        )
    if not _CLAUSE.match(restriction):
        return _refuse(f"Error in the JQL Query: '{restriction[:80]}' is not a clause.")
    wanted = re.search(r'\bproject\s*=\s*["\']?(\w+)', restriction, re.IGNORECASE)
    if wanted and wanted[1].upper() not in PROJECTS:
        return _refuse(f"The value '{wanted[1]}' does not exist for the field 'project'.")
    found = [
        issue
        for issue in issues_of(request.app[STATE], site)
        if wanted is None or str(issue["key"]).startswith(f"{wanted[1].upper()}-")
    ]
    start = _page_start(str(order.get("nextPageToken") or ""))
    if start is None:
        return _refuse("The provided next page token is invalid or expired.")
    size = page_size(request, order.get("maxResults"))
    names = _fields_wanted(request, order.get("fields"), default="id")
    shown = [_issue(request, issue, names) for issue in found[start : start + size]]
    page: dict[str, Any] = {"issues": shown}
    if start + size < len(found):
        page["nextPageToken"] = f"page-{start + size}"
    return json_reply(page | {"isLast": start + size >= len(found)})


@product("jira", *READ_WORK)
async def search_gone(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET or POST search: removed by Atlassian; search/jql took its place."""
    version = request.match_info["version"]
    message = f"The requested API has been removed. Please migrate to the /rest/api/{version}/search/jql API."
    return json_reply({"errorMessages": [message], "errors": {}}, status=410)


@product("jira", "write:jira-work", "write:issue:jira")
async def create_issue(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """POST issue: needs a project, a summary and an issue type, like the real one."""
    order = await _order(request)
    fields = (order or {}).get("fields")
    if not isinstance(fields, dict):
        return _refuse("fields is required.")
    errors = {}
    key = _named(fields.get("project"), {key: number for key, (number, _) in PROJECTS.items()}, by="key")
    if key is None:
        errors["project"] = "Specify a valid project ID or key"
    if not isinstance(fields.get("summary"), str) or not fields["summary"].strip():
        errors["summary"] = "You must specify a summary of the issue."
    if not isinstance(fields.get("issuetype"), dict):
        errors["issuetype"] = "Specify an issue type"
    if problem := _description_problem(request, fields.get("description")):
        errors["description"] = problem
    if errors:
        return json_reply({"errorMessages": [], "errors": errors}, status=400)

    known = issues_of(request.app[STATE], site)
    number = 1 + sum(str(issue["key"]).startswith(f"{key}-") for issue in known)
    issue: dict[str, object] = {
        "id": str(20_000 + len(known)),
        "key": f"{key}-{number}",
        "summary": fields["summary"],
        "type": _named(fields["issuetype"], ISSUE_TYPES, by="name") or "Task",
        "description": fields.get("description"),
        "reporter": bearer.account.slug,
        "created": request.app[STATE].now(),
    }
    known.append(issue)
    request[CALL].committed = True
    self_url = _self(request, f"issue/{issue['id']}")
    return json_reply({"id": issue["id"], "key": issue["key"], "self": self_url}, status=201)


@product("jira", *READ_WORK)
async def read_issue(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET issue/{key or id}; what is not there, and what one may not see, look the same."""
    name = request.match_info["key"]
    names = _fields_wanted(request, request.query.get("fields"), default="*all")
    for issue in issues_of(request.app[STATE], site):
        if name in (issue["key"], issue["id"]):
            return json_reply(_issue(request, issue, names))
    message = "Issue does not exist or you do not have permission to see it."
    return json_reply({"errorMessages": [message], "errors": {}}, status=404)


def issues_of(state: State, site: Site) -> list[dict[str, object]]:
    """Return the issues of a site, made up at the first look."""
    if site.cloud_id not in state.issues:
        keys = list(PROJECTS)
        state.issues[site.cloud_id] = [
            {
                "id": str(10_000 + number),
                "key": f"{keys[number % 2]}-{number // 2 + 1}",
                "summary": SUMMARIES[number % len(SUMMARIES)],
                "type": "Task",
                "description": None,
                "reporter": "jo",
                "created": state.now(),
            }
            for number in range(FIRST_ISSUES)
        ]
    return state.issues[site.cloud_id]


def jira_time(seconds: float) -> str:
    """Write a moment the way Jira does: milliseconds, and a zone without a colon."""
    at = datetime.fromtimestamp(seconds, tz=UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}+0000"


def number_of(request: web.Request, name: str, default: int) -> int:
    """Return a whole number of the query, or the default for anything else."""
    text = request.query.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 10 else default


def page_size(request: web.Request, given: object = None) -> int:
    """Return how many a page may hold, at most MAX_PAGE."""
    wanted = given if isinstance(given, int) else number_of(request, "maxResults", 50)
    return min(max(1, wanted), MAX_PAGE)


def person(request: web.Request, account: Account) -> dict[str, Any]:
    """Return an account as Jira shows it."""
    shown: dict[str, Any] = {
        "self": _self(request, f"user?accountId={account.account_id}"),
        "accountId": account.account_id,
        "accountType": "atlassian",
        "displayName": account.name,
        "emailAddress": account.email,
        "active": True,
    }
    if request.app[STATE].switches.hide_email:
        del shown["emailAddress"]
    return shown


def project_of(request: web.Request, key: str) -> dict[str, Any]:
    """Return a project as Jira shows it."""
    number, name = PROJECTS[key]
    self_url = _self(request, f"project/{number}")
    return {"id": number, "key": key, "name": name, "projectTypeKey": "software", "self": self_url}


def issue_type_of(request: web.Request, name: str) -> dict[str, Any]:
    """Return an issue type as Jira shows it."""
    number = ISSUE_TYPES[name]
    return {"self": _self(request, f"issuetype/{number}"), "id": number, "name": name, "subtask": False}


async def _order(request: web.Request) -> dict[str, Any] | None:
    try:
        order = json.loads(await request.read())
    except (ValueError, RecursionError):
        return None
    return order if isinstance(order, dict) else None


def _refuse(message: str) -> web.Response:
    return json_reply({"errorMessages": [message], "errors": {}}, status=400)


def _page_start(token: str) -> int | None:
    match = re.fullmatch(r"page-(\d{1,9})", token)
    if match:
        return int(match[1])
    return None if token else 0


def _fields_wanted(request: web.Request, given: object, *, default: str) -> list[str]:
    """Return the names of the fields to show: from a list, or from one or more comma-separated parameters."""
    asked = request.query.getall("fields", []) if isinstance(given, str) else given
    listed = asked if isinstance(asked, list) else [default]
    names = [name.strip() for part in listed for name in str(part).split(",")]
    return list(FIELDS) if {"*all", "*navigable"} & set(names) else names


def _named(given: object, numbers: dict[str, str], *, by: str) -> str | None:
    """Return the name of what an order refers to by name or by id."""
    if not isinstance(given, dict):
        return None
    return next(
        (name for name, number in numbers.items() if name == given.get(by) or number == given.get("id")), None
    )


def _description_problem(request: web.Request, description: object) -> str:
    """Tell what is wrong with a description: text in version 2, a document in version 3."""
    if description is None:
        return ""
    if request.match_info["version"] == "2":
        return "" if isinstance(description, str) else "Operation value must be a string"
    is_document = isinstance(description, dict) and description.get("type") == "doc"
    return (
        ""
        if is_document
        else "Operation value must be an Atlassian Document (see the Atlassian Document Format)"
    )


def _description_in(version: str, description: object) -> object:
    """Return a description in the other version's way of writing, roughly."""
    if version == "2" and isinstance(description, dict):
        return _text_of(description)
    if version == "3" and isinstance(description, str):
        text = [{"type": "text", "text": description}] if description else []
        return {"type": "doc", "version": 1, "content": [{"type": "paragraph", "content": text}]}
    return description


def _text_of(node: object) -> str:
    if not isinstance(node, dict):
        return ""
    content = node.get("content")
    return "".join(map(_text_of, content)) if isinstance(content, list) else str(node.get("text", ""))


def _self(request: web.Request, path: str) -> str:
    match = request.match_info
    return f"{request.url.origin()}/ex/jira/{match['cloud_id']}/rest/api/{match['version']}/{path}"


def _issue(request: web.Request, issue: dict[str, object], names: list[str]) -> dict[str, Any]:
    if names == ["id"]:
        return {"id": issue["id"]}
    moment = jira_time(float(str(issue["created"])))
    fields: dict[str, Any] = {
        "summary": issue["summary"],
        "status": {
            "id": "10000",
            "name": "To Do",
            "statusCategory": {"id": 2, "key": "new", "name": "To Do"},
        },
        "issuetype": issue_type_of(request, str(issue["type"])),
        "project": project_of(request, str(issue["key"]).partition("-")[0]),
        "reporter": person(request, account_named(str(issue["reporter"]))),
        "assignee": None,
        "labels": [],
        "description": _description_in(request.match_info["version"], issue["description"]),
        "created": moment,
        "updated": moment,
    }
    return {
        "id": issue["id"],
        "key": issue["key"],
        "self": _self(request, f"issue/{issue['id']}"),
        "fields": {name: value for name, value in fields.items() if name in names},
    }
