"""A few Jira calls: enough to see a token work, to page, to write, and to meet Jira's refusals.

Versions 2 and 3 are the same calls; they differ in how an issue's description is written.
"""

from typing import Any

from aiohttp import web

from providers.sandbox import api_jira_files
from providers.sandbox import api_jira_issues as issues
from providers.sandbox.api_jira_issues import PROJECTS, READ_WORK, person, project_of
from providers.sandbox.gateway import Bearer, product
from providers.sandbox.keys import STATE
from providers.sandbox.people import Site
from providers.sandbox.replies import json_reply


@product("jira")
async def server_info(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET serverInfo needs no scope: the best way to see whether a cloud id is alive."""
    return json_reply(
        {
            "baseUrl": site.url,
            "version": "1001.0.0-SNAPSHOT",
            "versionNumbers": [1001, 0, 0],
            "deploymentType": "Cloud",
            "buildNumber": 100_000,
            "buildDate": issues.jira_time(0),
            "serverTime": issues.jira_time(request.app[STATE].now()),
            "scmInfo": "sandbox",
            "serverTitle": f"Jira of {site.name}",
            "defaultLocale": {"locale": "en_US"},
        }
    )


@product("jira", "read:jira-user", "read:user:jira")
async def myself(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET myself: the account as Jira shows it."""
    return json_reply(person(request, bearer.account) | {"timeZone": "Europe/Berlin", "locale": "en_US"})


@product("jira", *READ_WORK)
async def project_search(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET project/search, paged by startAt and maxResults."""
    projects = [project_of(request, key) for key in PROJECTS]
    start, size = issues.number_of(request, "startAt", 0), issues.page_size(request)
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
async def projects_all(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET project: all of them as a list; deprecated, and what client libraries still call."""
    return json_reply([project_of(request, key) for key in PROJECTS])


@product("jira", *READ_WORK)
async def read_project(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET project/{key or id}."""
    name = request.match_info["project"]
    for key, (number, _) in PROJECTS.items():
        if name in (key, number):
            return json_reply(project_of(request, key))
    return json_reply(
        {"errorMessages": [f"No project could be found with key '{name}'."], "errors": {}}, status=404
    )


@product("jira", *READ_WORK)
async def fields_all(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET field: the names that client libraries translate."""
    found: list[dict[str, Any]] = [
        {"id": name, "key": name, "name": label, "custom": False, "navigable": True, "searchable": True}
        for name, label in issues.FIELDS.items()
    ]
    return json_reply(found)


@product("jira", *READ_WORK)
async def issue_types(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """GET issuetype."""
    return json_reply([issues.issue_type_of(request, name) for name in issues.ISSUE_TYPES])


@product("jira")
async def not_for_oauth(request: web.Request, bearer: Bearer, site: Site) -> web.StreamResponse:
    """Everything else of Jira: the sandbox has it not."""
    message = f"OAuth 2.0 is not enabled for method: {request.method} {request.path}"
    return json_reply({"errorMessages": [message], "errors": {}}, status=403)


def routes() -> list[web.RouteDef]:
    """Return the routes below /ex/jira/{cloud_id}/."""
    base = "/ex/jira/{cloud_id}/rest/api/{version:[23]}"
    return [
        web.get(f"{base}/serverInfo", server_info),
        web.get(f"{base}/myself", myself),
        web.get(f"{base}/project/search", project_search),
        web.get(f"{base}/project", projects_all),
        web.get(f"{base}/project/{{project}}", read_project),
        web.get(f"{base}/field", fields_all),
        web.get(f"{base}/issuetype", issue_types),
        web.get(f"{base}/search/jql", issues.search_jql),
        web.post(f"{base}/search/jql", issues.search_jql),
        web.get(f"{base}/search", issues.search_gone),
        web.post(f"{base}/search", issues.search_gone),
        web.post(f"{base}/issue", issues.create_issue),
        web.get(f"{base}/issue/{{key}}", issues.read_issue),
        *api_jira_files.routes(),
        web.route("*", "/ex/jira/{cloud_id}/{rest:.*}", not_for_oauth),
    ]
