"""The portal's API, as far as this application needs it; and Jira, with the token that comes out of it.

The portal's page *Connect* has the same code ready to paste, with an application's own addresses in it.
"""

import os
from urllib.parse import urljoin

import requests

API = os.environ["PORTAL"] + "/api/v1/"
KEY = os.environ["PORTAL_KEY"]
PROVIDER = "atlassian"
# Seconds. The portal may have to refresh the token first, and waits for Atlassian.
PATIENCE = 30


class PortalError(Exception):
    """The portal said no. `problem["code"]` says why, `problem["detail"]` says it to people."""

    def __init__(self, problem):
        super().__init__(problem["detail"])
        self.problem = problem
        self.code = problem["code"]


def call(method, path, **options):
    """Call the portal's API and return what it answers. Raises PortalError."""
    answer = requests.request(
        method, urljoin(API, path), headers={"Authorization": f"Bearer {KEY}"}, timeout=PATIENCE, **options
    )
    if not answer.ok:
        raise PortalError(answer.json())
    return answer.json()


def open_session(user_id, *, return_url):
    """Make a connect session for a user: one that repairs their connection, where its access has ended."""
    try:
        token(user_id)
    except PortalError as error:
        if error.code == "needs_reconnect":
            # The problem says which call makes the link. Repaired, the connection keeps its id.
            return call("POST", error.problem["reconnect"]["url"], json={"return_url": return_url})
    asked = {"end_user": user_id, "provider": PROVIDER, "return_url": return_url}
    return call("POST", "connect/sessions", json=asked)


def finish(user_id, code):
    """Vouch that whoever brought this code is this user: from now on the connection is active."""
    return call("POST", "connect/exchange", json={"code": code, "end_user": user_id})


def manage_link(user_id, *, return_url):
    """Return the address of this user's own page at the portal. It is a key: send nobody else there."""
    return call("POST", "manage-links", json={"end_user": user_id, "return_url": return_url})["url"]


def token(user_id):
    """Return a fresh access token of a user, and the sites it opens."""
    try:
        return call("GET", "token", params={"end_user": user_id, "provider": PROVIDER})
    except PortalError as error:
        if error.code != "ambiguous":
            raise
        # Several accounts: the one that was connected last.
        return call("GET", f"grants/{error.problem['candidates'][0]['id']}/token")


def issues(fresh):
    """Return the latest issues of every site that the token opens. Raises requests.RequestException."""
    found = []
    for site in fresh["sites"]:
        answer = requests.get(
            f"{site['base_urls']['Jira']}/rest/api/3/search/jql",
            params={
                "jql": "created >= -365d ORDER BY created DESC",
                "fields": "summary,status",
                "maxResults": 10,
            },
            headers={"Authorization": f"{fresh['token_type']} {fresh['access_token']}"},
            timeout=PATIENCE,
        )
        answer.raise_for_status()
        for issue in answer.json()["issues"]:
            fields = issue["fields"]
            found.append(
                {
                    "key": issue["key"],
                    "url": f"{site['url']}/browse/{issue['key']}",
                    "site": site["name"],
                    "summary": fields["summary"],
                    "status": fields["status"]["name"],
                }
            )
    return found
