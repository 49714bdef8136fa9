"""Libraries of other people at work through the proxy, over real HTTP, with nothing but a base URL and an API key."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import atlassian
import jira
import pytest

from providers.sandbox.people import account_named
from tests.factories import GrantFactory
from tests.processes import wait_until
from tests.tokens.api.caller import Caller
from tests.tokens.connecting import configured
from tokens.models import Grant, Site

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread
    from tests.processes import Processes

SCOPES = "offline_access read:me read:jira-user read:jira-work write:jira-work read:confluence-user read:confluence-content.all read:confluence-space.summary write:confluence-content"


@pytest.fixture
def grant(processes: Processes, sandbox: SandboxThread) -> Grant:
    config = configured(sandbox)
    minted = sandbox.mint(config.client_id, account="jo", scope=SCOPES)[0]
    grant = GrantFactory(
        provider_config=config,
        access_token=minted["access_token"],
        refresh_token=minted["refresh_token"],
        site_names=[],
    )
    reached = account_named("jo").sites[0]
    Site.objects.create(
        grant=grant, cloud_id=reached.cloud_id, name=reached.name, products=["Jira", "Confluence"]
    )
    return grant


def test_libraries_work_through_the_proxy_with_a_base_url_and_a_key(processes, sandbox, grant):
    address = processes.web()
    key = Caller(grant.application, "proxy").text
    base = f"{address}/api/v1/proxy/{grant.pk}/-"

    api = atlassian.Jira(url=f"{base}/jira", token=key, cloud=True)
    project = api.projects()[0]["key"]
    made = api.create_issue(
        fields={
            "project": {"key": project},
            "summary": "Made through the proxy",
            "issuetype": {"name": "Task"},
        }
    )
    assert api.myself()["displayName"] == "Jo Doe"
    assert api.issue(made["key"])["fields"]["summary"] == "Made through the proxy"
    assert api.enhanced_jql(f"project = {project}")["issues"]

    client = jira.JIRA(server=f"{base}/jira", token_auth=key, get_server_info=False)
    assert client.issue(made["key"]).fields.summary == "Made through the proxy"
    assert client.myself()["displayName"] == "Jo Doe"

    wiki = atlassian.Confluence(url=f"{base}/confluence/wiki", token=key)
    spaces = wiki.get("rest/api/space")["results"]
    assert spaces
    page = wiki.create_page(spaces[0]["key"], "Through the proxy", "<p>Hello</p>")
    assert wiki.get_page_by_id(page["id"])["title"] == "Through the proxy"

    parts = iter([b'{"jql": "project = ', f'{project}"'.encode(), b"}"])
    status, body = _send(address, "POST", f"{urlsplit(base).path}/jira/rest/api/3/search/jql", key, parts)
    assert (status, bool(json.loads(body)["issues"])) == (200, True)
    _who_hangs_up_frees_the_place(address, f"{urlsplit(base).path}/jira/rest/api/3/field", key, sandbox)


def _send(address: str, method: str, path: str, key: str, body: Any = None) -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with closing(HTTPConnection(urlsplit(address).netloc, timeout=20)) as connection:
        # An iterator goes out in chunks.
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()


def _who_hangs_up_frees_the_place(address: str, path: str, key: str, sandbox: SandboxThread) -> None:
    """E7: as many callers as the web process has threads get an endless answer, and hang up."""
    sandbox.fault("slow_loris", on="/ex/*", times=4, ms=200)
    host, _, port = urlsplit(address).netloc.partition(":")
    callers = [socket.create_connection((host, int(port))) for _ in range(4)]
    for caller in callers:
        caller.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        )
    for caller in callers:
        assert b"200 OK" in caller.recv(1000)
    started = time.monotonic()
    for caller in callers:
        caller.close()

    wait_until(lambda: _send(address, "GET", path, key)[0] == 200, what="a free place")
    assert time.monotonic() - started < 10
