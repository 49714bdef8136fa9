"""The README's tour, over real HTTP: add a provider, connect, see it refresh, break it, repair it, audit it.

Every secret in it carries a marker. At the end a database dump, the broker, the logs and every page are searched for it.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING

import mechanicalsoup
import pytest
from django.conf import settings
from django.contrib.auth.hashers import make_password
from redis import Redis

from portal.local.postgres import program
from portal.models import User
from tests.factories import (
    CANARY,
    CLIENT_SECRET,
    PASSWORD,
    ApplicationFactory,
    MembershipFactory,
    UserFactory,
    database_now,
)
from tests.processes import test_database_url, wait_until
from tokens.models import Grant, GrantStatus

if TYPE_CHECKING:
    from pathlib import Path

    from providers.sandbox.thread import SandboxThread
    from tests.processes import Processes

pytestmark = pytest.mark.slow

CLIENT_ID = "Abcdefgh0123456789Abcdefgh012345"


class Visitor(mechanicalsoup.StatefulBrowser):
    """A browser without JavaScript that keeps every page it saw."""

    def __init__(self, base: str) -> None:
        super().__init__(raise_on_404=False)
        self.base = base
        self.pages: list[str] = []

    def go(self, path: str) -> str:
        """Open a page of the portal and return its text."""
        return self._keep(self.open(path if "://" in path else self.base + path))

    def press(self, form: str, *, button: str = "", **values: object) -> str:
        """Fill in the form that matches a CSS selector, send it, follow the redirects, return the page's text."""
        selected = self.select_form(form)
        if button:
            selected.choose_submit(self.page.select_one(button))
        for name, value in values.items():
            selected[name] = value
        return self._keep(self.submit_selected())

    def _keep(self, response: object) -> str:
        text = response.text
        # A form keeps what was typed, and its CSRF token; neither is a leak.
        self.pages.append(text)
        return str(self.page.get_text(" ", strip=True)) if self.page else text


def test_the_tour_of_the_readme_leaves_no_secret_anywhere_c1_g5_g6(
    processes: Processes, sandbox: SandboxThread, tmp_path: Path
) -> None:
    sandbox.register_client(CLIENT_ID, CLIENT_SECRET)
    sandbox.set(access_ttl=8)
    application = ApplicationFactory(name="Acme Tasks", slug="acme-tasks")
    owner = UserFactory(email="owner@acme.example", is_staff=True, is_superuser=True)
    MembershipFactory(application=application, user=owner)
    # The web process is a real one: it knows none of the tests' quick hashes.
    User.objects.filter(pk=owner.pk).update(password=make_password(PASSWORD, hasher="pbkdf2_sha256"))
    base = processes.web()
    admin, end_user = Visitor(base), Visitor(base)

    # 1. Add a provider.
    admin.go("/accounts/login/")
    assert "Acme Tasks" in admin.press('form[action*="login"]', login="owner@acme.example", password=PASSWORD)
    page = admin.go("/applications/acme-tasks/providers/add/atlassian/")
    assert f"{base}/oauth/callback/acme-tasks/atlassian" in page
    page = admin.press(
        "main form[method=post]",
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        scopes=["read:jira-work", "read:jira-user"],
    )
    assert "The provider is now active." in page

    # 2. A connect link for an end user; the connection waits for a member.
    admin.go("/applications/acme-tasks/connections/new/")
    admin.press("main form[method=post]", end_user="user-4711")
    link = admin.page.find(string=lambda text: text and "/connect/" in text).strip()
    page = end_user.go(link)
    assert "Acme Tasks" in page
    assert "read your Jira projects and issues" in page
    end_user.press("form[action*=start]")
    end_user.press("form#consent", button="#accept", account="jo")
    page = end_user.press("main form[method=post]")
    assert "Jo Doe" in page
    grant = Grant.objects.get()
    assert grant.status == GrantStatus.PENDING

    # 3. Confirmed, it is kept fresh by worker and beat.
    admin.go(f"/applications/acme-tasks/connections/{grant.pk}/")
    admin.press('form[action$="confirm/"]')
    worker = processes.worker()
    processes.beat()
    wait_until(lambda: Grant.objects.get().gen >= grant.gen + 2, seconds=60, what="two refreshes")
    assert "Fresh" in admin.go("/applications/acme-tasks/connections/")

    # 4. Removed at Atlassian: it needs reconnecting, and a link repairs it in place.
    sandbox.set(access_ttl=3600)
    sandbox.revoke_grant("jo", CLIENT_ID)
    wait_until(lambda: Grant.objects.get().fail_outcome == "grant_dead", seconds=60, what="the first refusal")
    # The verdict is confirmed by a second try, twenty seconds later; nobody needs to wait for that here.
    Grant.objects.update(refresh_due_at=database_now(), next_attempt_at=None)
    wait_until(
        lambda: Grant.objects.get().status == GrantStatus.NEEDS_RECONNECT, seconds=60, what="the verdict"
    )
    assert "Needs reconnect" in admin.go(f"/applications/acme-tasks/connections/{grant.pk}/")
    admin.press('form[action$="reconnect/"]')
    link = admin.page.find(string=lambda text: text and "/connect/" in text).strip()
    end_user.go(link)
    end_user.press("form[action*=start]")
    end_user.press("form#consent", button="#accept", account="jo")
    end_user.press("main form[method=post]")
    repaired = Grant.objects.get()
    assert (repaired.pk, repaired.status) == (grant.pk, GrantStatus.ACTIVE)

    # 5. Audit.
    page = admin.go("/applications/acme-tasks/audit-log/")
    for words in ("Provider added", "Connected", "Connection confirmed", "Needs reconnect", "Reconnected"):
        assert words in page
    assert "user-4711" in admin.go("/admin/tokens/grant/?q=user-4711")

    # Every place where a secret could lie: nothing.
    broker = Redis.from_url(settings.REDIS_URL)
    places = {
        "the broker and cache": b"".join(broker.dump(key) or b"" for key in broker.scan_iter("*")),
        "the database": dump(tmp_path),
        "the logs": processes.logs().encode(),
        "the admin's pages": "\n".join(admin.pages).encode(),
        "the end user's pages": "\n".join(end_user.pages).encode(),
    }
    assert worker.poll() is None
    assert_every_line_names_its_work(processes.logs())
    assert len(places["the logs"]) > 10_000
    for place, content in places.items():
        where = content.find(CANARY.encode())
        assert where < 0, f"A secret is in {place}: …{content[max(0, where - 80) : where + 20]!r}"


def assert_every_line_names_its_work(logs: str) -> None:
    """Look at what web, worker and beat wrote: JSON, with the request or task where there is one."""
    lines = [json.loads(line) for line in logs.splitlines() if line.startswith("{")]
    access = [line for line in lines if line["logger"] == "portal.access"]
    done = [line for line in lines if line["logger"] == "celery.app.trace"]
    assert {"celery.beat", "_granian"} <= {line["logger"] for line in lines}
    assert access
    assert done
    assert all(line["request_id"] for line in access)
    assert all(line["task_id"] for line in done)
    assert not [line for line in access if "?" in line["path"]]


def dump(folder: Path) -> bytes:
    """Return a dump of this test's database, in clear SQL."""
    target = folder / "dump.sql"
    subprocess.run(
        [program("pg_dump"), "--dbname", test_database_url(), "--inserts", "--file", target], check=True
    )
    content = target.read_bytes()
    assert b"tokens_granttokens" in content
    # bytea is dumped in hex: a secret in clear would hide in it.
    return content + b"".join(
        bytes.fromhex(digits) for digits in re.findall(r"\\x((?:[0-9a-f]{2})+)", content.decode())
    )
