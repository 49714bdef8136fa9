"""Sites, profile, Jira, Confluence: scopes, refusals, rate limits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.providers.sandbox.client import CLIENT_ID, Answer, call, cloud_id, connect, refresh

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread

NO_SCOPE = {"code": 401, "message": "Unauthorized; scope does not match"}
ALL = (
    "offline_access read:me read:jira-user read:jira-work write:jira-work read:confluence-user "
    "read:confluence-space.summary read:confluence-content.all write:confluence-content "
    "read:space:confluence read:page:confluence"
)


def resources(sandbox: SandboxThread, token: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = call(f"{sandbox.url}/oauth/token/accessible-resources", bearer=token).json
    return found


def jira(
    sandbox: SandboxThread, path: str, token: str, *, site: str = "acme", version: int = 3, **options: Any
) -> Answer:
    url = f"{sandbox.url}/ex/jira/{cloud_id(sandbox, site)}/rest/api/{version}/{path}"
    return call(url, bearer=token, **options)


def confluence(
    sandbox: SandboxThread, path: str, token: str, *, site: str = "acme", **options: Any
) -> Answer:
    return call(f"{sandbox.url}/ex/confluence/{cloud_id(sandbox, site)}/{path}", bearer=token, **options)


@pytest.fixture
def token(sandbox: SandboxThread) -> str:
    return str(connect(sandbox, scope=ALL)["access_token"])


def test_the_sites_are_those_of_the_account_with_the_scopes_that_reach_them(sandbox: SandboxThread) -> None:
    tokens = connect(sandbox, scope="offline_access read:me read:jira-work read:confluence-content.all")

    found = resources(sandbox, tokens["access_token"])

    assert [site["name"] for site in found] == ["acme", "acme-labs"]
    assert found[0]["scopes"] == ["read:confluence-content.all", "read:jira-work"]
    assert found[0]["url"] == "https://acme.atlassian.example"
    assert set(found[0]) == {"id", "name", "url", "scopes", "avatarUrl"}


@pytest.mark.parametrize(("account", "count"), [("sam", 1), ("kim", 0), ("lee", 4)])
def test_each_account_has_its_own_sites(sandbox: SandboxThread, account: str, count: int) -> None:
    tokens = connect(sandbox, account=account, scope=ALL)

    assert len(resources(sandbox, tokens["access_token"])) == count


def test_one_site_can_come_as_two_entries_with_one_id(sandbox: SandboxThread, token: str) -> None:
    sandbox.set(duplicate_containers=True)

    found = resources(sandbox, token)

    assert len(found) == 4
    assert found[0]["id"] == found[1]["id"]
    assert found[0]["scopes"] != found[1]["scopes"]


def test_a_token_without_product_scopes_reaches_no_site(sandbox: SandboxThread) -> None:
    tokens = connect(sandbox, scope="offline_access read:me")

    assert resources(sandbox, tokens["access_token"]) == []


def test_a_site_without_the_product_is_not_listed(sandbox: SandboxThread) -> None:
    tokens = connect(sandbox, account="lee", scope="read:jira-work")

    assert [site["name"] for site in resources(sandbox, tokens["access_token"])] == ["globex", "initech"]


def test_the_profile_has_the_documented_fields(sandbox: SandboxThread, token: str) -> None:
    profile = call(f"{sandbox.url}/me", bearer=token).json

    assert profile["name"] == "Jo Doe"
    assert profile["email"] == "jo@acme.example"
    assert re.fullmatch(r"712020:[0-9a-f-]{36}", profile["account_id"])
    assert profile["extended_profile"]["job_title"] == "Product manager"


def test_the_profile_without_read_me_is_forbidden(sandbox: SandboxThread) -> None:
    tokens = connect(sandbox, scope="read:jira-work")

    assert call(f"{sandbox.url}/me", bearer=tokens["access_token"]).status == 403


def test_the_email_can_be_hidden(sandbox: SandboxThread, token: str) -> None:
    sandbox.set(hide_email=True)

    assert "email" not in call(f"{sandbox.url}/me", bearer=token).json


@pytest.mark.parametrize("bearer", ["", "nonsense"])
def test_without_a_good_token_nothing_is_told(sandbox: SandboxThread, bearer: str) -> None:
    for path in ("me", "oauth/token/accessible-resources"):
        answer = call(f"{sandbox.url}/{path}", bearer=bearer)
        assert (answer.status, answer.json) == (401, {"code": 401, "message": "Unauthorized"})


def test_an_expired_token_is_401_or_by_path_403_and_404(sandbox: SandboxThread, token: str) -> None:
    sandbox.move_clock(3601)

    plain = jira(sandbox, "serverInfo", token)
    sandbox.set(expired_token_status="by_path")
    version_1 = jira(sandbox, "serverInfo", token)
    version_2 = confluence(sandbox, "wiki/api/v2/spaces", token)

    assert plain.json == {"code": 401, "message": "Unauthorized"}
    assert (version_1.status, version_2.status) == (403, 404)


def test_a_site_that_the_grant_does_not_reach_is_404(sandbox: SandboxThread, token: str) -> None:
    assert jira(sandbox, "serverInfo", token, site="globex").status == 404


def test_jira_answers_who_and_where(sandbox: SandboxThread, token: str) -> None:
    info, me = jira(sandbox, "serverInfo", token), jira(sandbox, "myself", token)

    assert info.json["baseUrl"] == "https://acme.atlassian.example"
    assert me.json["displayName"] == "Jo Doe"


@pytest.mark.parametrize("path", ["myself", "project/search", "search/jql?jql=project=WEB", "issue/WEB-1"])
def test_jira_without_the_scope_is_401_and_names_no_scope(sandbox: SandboxThread, path: str) -> None:
    tokens = connect(sandbox, scope="read:me write:jira-work")

    answer = jira(sandbox, path, tokens["access_token"])

    assert (answer.status, answer.json) == (401, NO_SCOPE)


def test_projects_come_in_pages(sandbox: SandboxThread, token: str) -> None:
    first = jira(sandbox, "project/search?maxResults=1", token).json
    second = jira(sandbox, "project/search?maxResults=1&startAt=1", token).json

    assert (first["total"], first["isLast"], second["isLast"]) == (2, False, True)
    assert first["values"][0]["key"] != second["values"][0]["key"]


def test_a_search_is_chained_by_the_next_page_token(sandbox: SandboxThread, token: str) -> None:
    first = jira(sandbox, "search/jql?jql=project%20%3D%20WEB&fields=summary&maxResults=4", token).json
    order = {
        "jql": "project = WEB",
        "fields": ["summary"],
        "maxResults": 4,
        "nextPageToken": first["nextPageToken"],
    }
    second = jira(sandbox, "search/jql", token, order=order).json

    keys = [issue["key"] for issue in first["issues"] + second["issues"]]
    assert keys == ["WEB-1", "WEB-2", "WEB-3", "WEB-4", "WEB-5", "WEB-6"]
    assert "nextPageToken" not in second


def test_a_search_needs_a_restriction_and_a_true_page_token(sandbox: SandboxThread, token: str) -> None:
    assert jira(sandbox, "search/jql", token).status == 400
    assert jira(sandbox, "search/jql?jql=project=WEB&nextPageToken=x", token).status == 400


def test_a_search_gives_ids_alone_unless_fields_are_asked_for(sandbox: SandboxThread, token: str) -> None:
    bare = jira(sandbox, "search/jql?jql=project=WEB", token).json
    some = jira(sandbox, "search/jql?jql=project=WEB&fields=summary,status&fields=created", token).json
    whole = jira(sandbox, "search/jql", token, order={"jql": "project = WEB", "fields": ["*all"]}).json

    assert bare["issues"][0] == {"id": "10000"}
    assert set(some["issues"][0]["fields"]) == {"summary", "status", "created"}
    assert whole["issues"][0]["fields"]["reporter"]["displayName"] == "Jo Doe"


@pytest.mark.parametrize("jql", ["order by created", "nonsense (((", "project = NOPE"])
def test_jql_that_jira_would_refuse_is_refused(sandbox: SandboxThread, token: str, jql: str) -> None:
    answer = jira(sandbox, "search/jql", token, order={"jql": jql})

    assert answer.status == 400
    assert answer.json["errorMessages"]


def test_the_old_search_is_gone(sandbox: SandboxThread, token: str) -> None:
    assert jira(sandbox, "search", token).status == 410


def test_an_issue_can_be_created_and_read_on_its_own_site_only(sandbox: SandboxThread, token: str) -> None:
    fields = {"project": {"key": "OPS"}, "summary": "Renew the certificate", "issuetype": {"name": "Task"}}

    created = jira(sandbox, "issue", token, order={"fields": fields})
    read = jira(sandbox, f"issue/{created.json['key']}", token)
    elsewhere = jira(sandbox, f"issue/{created.json['key']}", token, site="acme-labs")

    assert (created.status, created.json["key"]) == (201, "OPS-7")
    assert read.json["fields"]["summary"] == "Renew the certificate"
    assert elsewhere.status == 404


def test_an_issue_with_missing_fields_is_refused_field_by_field(sandbox: SandboxThread, token: str) -> None:
    answer = jira(sandbox, "issue", token, order={"fields": {}})

    assert answer.status == 400
    assert set(answer.json["errors"]) == {"project", "summary", "issuetype"}


def test_a_description_is_text_in_version_2_and_a_document_in_version_3(
    sandbox: SandboxThread, token: str
) -> None:
    fields = {"project": {"id": "10000"}, "summary": "Tell", "issuetype": {"id": "10004"}}
    order = {"fields": fields | {"description": "How it came"}}

    refused = jira(sandbox, "issue", token, order=order)
    created = jira(sandbox, "issue", token, order=order, version=2)
    in_3 = jira(sandbox, f"issue/{created.json['key']}", token).json["fields"]
    in_2 = jira(sandbox, f"issue/{created.json['key']}?fields=description", token, version=2).json["fields"]

    assert "Atlassian Document" in refused.json["errors"]["description"]
    assert (in_3["description"]["type"], in_3["issuetype"]["name"]) == ("doc", "Bug")
    assert in_2 == {"description": "How it came"}


def test_what_client_libraries_ask_for_at_first_is_there(sandbox: SandboxThread, token: str) -> None:
    for version in (2, 3):
        info = jira(sandbox, "serverInfo", token, version=version).json
        assert info["versionNumbers"] == [1001, 0, 0]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", info["serverTime"])
        projects = jira(sandbox, "project", token, version=version).json
        assert jira(sandbox, f"project/{projects[0]['key']}", token, version=version).json == projects[0]
        assert "summary" in [field["id"] for field in jira(sandbox, "field", token, version=version).json]
        assert "Task" in [kind["name"] for kind in jira(sandbox, "issuetype", token, version=version).json]

    assert jira(sandbox, "project/NOPE", token).status == 404


def test_creating_needs_the_write_scope(sandbox: SandboxThread) -> None:
    tokens = connect(sandbox, scope="read:jira-work")

    assert jira(sandbox, "issue", tokens["access_token"], order={}).json == NO_SCOPE


def test_what_the_sandbox_has_not_is_not_enabled_for_oauth(sandbox: SandboxThread, token: str) -> None:
    answer = jira(sandbox, "dashboard", token)

    assert answer.status == 403
    assert answer.json["errorMessages"][0].startswith("OAuth 2.0 is not enabled for method: GET")


def test_confluence_lists_creates_and_reads(sandbox: SandboxThread, token: str) -> None:
    order = {
        "type": "page",
        "title": "Runbook",
        "space": {"key": "DOCS"},
        "body": {"storage": {"value": "<p>Steps</p>", "representation": "storage"}},
    }

    spaces = confluence(sandbox, "wiki/rest/api/space", token).json
    created = confluence(sandbox, "wiki/rest/api/content", token, order=order)
    read = confluence(sandbox, f"wiki/rest/api/content/{created.json['id']}", token)
    listed = confluence(sandbox, "wiki/rest/api/content?spaceKey=DOCS", token).json
    twice = confluence(sandbox, "wiki/rest/api/content", token, order=order)

    assert [space["key"] for space in spaces["results"]] == ["TEAM", "DOCS"]
    assert confluence(sandbox, "wiki/rest/api/space/DOCS", token).json == spaces["results"][1]
    assert confluence(sandbox, "wiki/rest/api/space/NOPE", token).status == 404
    assert created.status == 200
    assert read.json["body"]["storage"]["value"] == "<p>Steps</p>"
    assert "Runbook" in [content["title"] for content in listed["results"]]
    assert twice.status == 400
    assert confluence(sandbox, "wiki/rest/api/content/1", token).status == 404
    assert confluence(sandbox, "wiki/rest/api/user/current", token).json["displayName"] == "Jo Doe"


def test_confluence_version_2_takes_granular_scopes_only(sandbox: SandboxThread, token: str) -> None:
    classic = connect(sandbox, account="sam", scope="read:confluence-space.summary")["access_token"]

    refused = confluence(sandbox, "wiki/api/v2/spaces", classic)
    spaces = confluence(sandbox, "wiki/api/v2/spaces?limit=1", token).json
    more = call(sandbox.url + spaces["_links"]["next"], bearer=token).json
    pages = confluence(sandbox, "api/v2/pages", token).json

    assert refused.json == NO_SCOPE
    assert [spaces["results"][0]["key"], more["results"][0]["key"]] == ["TEAM", "DOCS"]
    assert len(pages["results"]) == 3
    one = confluence(
        sandbox, f"wiki/api/v2/pages/{pages['results'][0]['id']}?body-format=storage", token
    ).json
    assert one["body"]["storage"]["value"] == "<p>Welcome</p>"
    assert confluence(sandbox, f"wiki/api/v2/spaces/{one['spaceId']}", token).json["key"] == "TEAM"
    assert confluence(sandbox, "wiki/api/v2/pages/1", token).status == 404
    assert confluence(sandbox, "wiki/api/v2/spaces/1", token).status == 404


def test_ordinary_answers_carry_the_rate_limit_headers(sandbox: SandboxThread, token: str) -> None:
    headers = jira(sandbox, "serverInfo", token).headers

    assert headers["X-RateLimit-Limit"] == "350"
    assert headers["X-RateLimit-Remaining"] == "349"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\dZ", headers["X-RateLimit-Reset"])


@pytest.mark.parametrize("kind", ["json", "html"])
def test_every_product_call_can_be_throttled(sandbox: SandboxThread, token: str, kind: str) -> None:
    sandbox.set(rate_limit=kind)

    answer = jira(sandbox, "serverInfo", token)

    assert answer.status == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert answer.headers["RateLimit-Reason"] == "jira-quota-tenant-based"
    assert kind in answer.headers["Content-Type"]


def test_a_quota_runs_out_and_comes_back_with_the_next_minute(sandbox: SandboxThread, token: str) -> None:
    sandbox.set(api_quota=2)
    # To the start of a minute, so that the real clock cannot end it under the test.
    sandbox.move_clock(60 - sandbox.state()["now"] % 60)

    statuses = [jira(sandbox, "serverInfo", token).status for _ in range(3)]
    sandbox.move_clock(60)

    assert statuses == [200, 200, 429]
    assert jira(sandbox, "serverInfo", token).status == 200


def test_the_scopes_of_a_refreshed_token_still_hold(sandbox: SandboxThread) -> None:
    old = connect(sandbox, scope="offline_access read:jira-user")

    new = refresh(sandbox, old["refresh_token"]).json

    assert jira(sandbox, "myself", new["access_token"]).status == 200
    assert sandbox.ledger()[-2]["client_id"] == CLIENT_ID


# --- Attachments -------------------------------------------------------------------------------------------------


def test_an_attachment_s_content_is_a_link_elsewhere_that_needs_no_token(
    sandbox: SandboxThread, token: str
) -> None:
    about = jira(sandbox, "attachment/10000", token).json
    answer = call(about["content"], bearer=token)

    assert answer.status == 303
    there = answer.headers["Location"]
    assert "/ex/" not in there
    assert token not in there
    content = call(there)
    assert (content.status, len(content.body)) == (200, about["size"])
    assert content.headers["Content-Type"] == about["mimeType"]


def test_without_a_redirect_the_bytes_come_themselves_as_many_as_the_switch_says(
    sandbox: SandboxThread, token: str
) -> None:
    sandbox.set(attachment_bytes=200_001)

    answer = jira(sandbox, "attachment/content/10000?redirect=false", token)

    assert (answer.status, len(answer.body)) == (200, 200_001)
    assert answer.headers["X-RateLimit-Limit"] == "350"
    assert sandbox.ledger()[-1]["outcome"] == "ok"


@pytest.mark.parametrize("path", ["attachment/10001", "attachment/content/10001", "attachment/content/x"])
def test_there_is_only_one_attachment(sandbox: SandboxThread, token: str, path: str) -> None:
    assert jira(sandbox, path, token).status == 404


def test_an_attachment_needs_a_scope_like_issues(sandbox: SandboxThread) -> None:
    token = connect(sandbox, scope="offline_access read:me read:jira-user")["access_token"]

    assert jira(sandbox, "attachment/content/10000", token).json == NO_SCOPE


def test_a_link_that_was_changed_or_is_too_old_leads_nowhere(sandbox: SandboxThread, token: str) -> None:
    there = str(jira(sandbox, "attachment/content/10000", token).headers["Location"])
    changed = [
        there.replace("until=", "until=9"),
        re.sub("signature=.", "signature=", there),
        re.sub("signature=.*", "signature=%C3%A9", there),
        re.sub(r"until=\d+", "until=soon", there),
        there.partition("?")[0],
        there.replace(cloud_id(sandbox, "acme"), cloud_id(sandbox, "acme-labs")),
    ]

    assert [call(link).status for link in changed] == [403] * len(changed)
    sandbox.move_clock(601)
    assert call(there).status == 403
