"""Connect: what is missing, and the code to paste, which is run here as it stands on the page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
from django.test import override_settings
from django.urls import reverse
from playwright._impl._driver import compute_driver_executable

from portal import api_keys
from portal.audit import SYSTEM
from portal.models import ApiKey
from providers.configure import disable
from providers.models import ProviderConfig
from tests.browser.conftest import serving
from tests.factories import ProviderConfigFactory
from tests.tokens.connecting import Browser, configured, query_of
from tokens.models import Grant, GrantStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from providers.sandbox.thread import SandboxThread
    from tests.conftest import Cast


def guide(cast: Cast, who: str = "owner", **query: str) -> Any:
    return cast.client(who).get(reverse("connect-guide", args=["acme-tasks"]), query)


def snippet(page: Any, name: str) -> str:
    """Return the code as a browser would show it."""
    text: str = page.content.decode().partition(f'<code id="code-{name}">')[2].partition("</code>")[0]
    assert text
    return unescape(text)


@pytest.mark.django_db
def test_an_empty_application_is_told_what_to_do_in_which_order(cast: Cast) -> None:
    cast.application.return_origins = []
    cast.application.save()

    page = guide(cast)

    links = [
        reverse(name, args=["acme-tasks"])
        for name in ("provider-gallery", "application-settings", "api-key-create")
    ]
    places = [page.content.decode().index(f'class="button small" href="{link}"') for link in links]
    assert places == sorted(places)
    assert page.context["snippets"] == []


@pytest.mark.django_db
def test_who_may_not_see_to_it_is_told_who_does(cast: Cast) -> None:
    page = guide(cast, "auditor").content.decode()

    assert page.count("An owner or admin does this.") == 3


@pytest.mark.django_db
def test_a_key_counts_only_where_it_works_for_this_provider(cast: Cast) -> None:
    ProviderConfigFactory(application=cast.application)
    made = {
        "other provider": {"permissions": ["connect", "tokens:read"], "provider_ids": ["other"]},
        "half": {"permissions": ["connect"]},
    }
    for name, fields in made.items():
        api_keys.create(cast.application, name=name, actor=SYSTEM, **fields)

    assert "No key for it has <code>tokens:read</code> yet." in guide(cast).content.decode()

    key, _ = api_keys.create(cast.application, name="rest", permissions=["tokens:read"], actor=SYSTEM)
    assert "No key for it" not in guide(cast).content.decode()
    api_keys.revoke(key, actor=SYSTEM)
    assert "No key for it has <code>tokens:read</code> yet." in guide(cast).content.decode()


@pytest.mark.django_db
def test_a_provider_that_is_switched_off_or_gone_is_said_so(cast: Cast) -> None:
    config = ProviderConfigFactory(application=cast.application)
    disable(config, actor=SYSTEM)
    assert "It does not work just now." in guide(cast).content.decode()

    ProviderConfig.objects.update(provider_id="gone-from-the-catalog")
    page = guide(cast)
    assert page.status_code == 200
    assert page.context["snippets"] == []


# --- The code -----------------------------------------------------------------------------------------------------


@pytest.fixture
def page(transactional_db: None, cast: Cast, sandbox: SandboxThread) -> Iterator[Any]:
    """Serve the portal and return the page of an application with all that it needs."""
    with serving(), override_settings(ALLOWED_HOSTS=["localhost", "testserver"]):
        cast.application.return_origins = ["https://app.acme.example"]
        cast.application.save()
        configured(sandbox, application=cast.application)
        _, text = api_keys.create(
            cast.application, name="back end", permissions=["connect", "tokens:read"], actor=SYSTEM
        )
        page = guide(cast)
        assert "All is there" in page.content.decode()
        page.key = text
        yield page


def run(page: Any, *command: str, stdin: str = "", **more: str) -> str:
    """Run a program with the key, and nothing else of ours, in its environment; return what it prints."""
    environment = {"PATH": os.environ["PATH"], "PORTAL_KEY": page.key, **more}
    done = subprocess.run(
        command, input=stdin, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def connect(sandbox: SandboxThread, session: dict[str, str]) -> dict[str, str]:
    """Do what the user's browser does; return what the application's page gets."""
    browser = Browser(sandbox)
    browser.arrive(session["url"].strip("/").rpartition("/")[2])
    back = browser.client.post(reverse("connect-return", args=[session["id"]]))["Location"]
    return query_of(back)


@pytest.mark.django_db(transaction=True)
def test_the_python_works_as_it_is_pasted(page: Any, sandbox: SandboxThread, tmp_path: Path) -> None:
    (tmp_path / "pasted.py").write_text(snippet(page, "python"))
    start = "import json, sys; sys.path.insert(0, sys.argv[1]); import pasted; "

    session = json.loads(
        run(
            page,
            sys.executable,
            "-c",
            start + "print(json.dumps(pasted.connect_session('u-1')))",
            str(tmp_path),
        )
    )
    result = connect(sandbox, session)
    finish = "pasted.finish('u-1', *json.load(sys.stdin)); print(json.dumps(pasted.projects('u-1')))"
    stdin = json.dumps([session["id"], result])
    found = json.loads(run(page, sys.executable, "-c", start + finish, str(tmp_path), stdin=stdin))

    assert [project["key"] for project in found["values"]] == ["WEB", "OPS"]
    assert Grant.objects.get().status == GrantStatus.ACTIVE
    assert ApiKey.objects.get().last_used_at


@pytest.mark.django_db(transaction=True)
def test_the_javascript_works_as_it_is_pasted(page: Any, sandbox: SandboxThread, tmp_path: Path) -> None:
    # Playwright brings a Node.js along.
    node = str(compute_driver_executable()[0])
    (tmp_path / "pasted.mjs").write_text(snippet(page, "javascript"))
    (tmp_path / "start.mjs").write_text(
        'import * as pasted from "./pasted.mjs"; console.log(JSON.stringify(await pasted.connectSession("u-1")));'
    )
    (tmp_path / "finish.mjs").write_text(
        'import * as pasted from "./pasted.mjs"; const [kept, result] = JSON.parse(process.argv[2]);'
        'await pasted.finish("u-1", kept, result); console.log(JSON.stringify(await pasted.projects("u-1")));'
    )

    session = json.loads(run(page, node, str(tmp_path / "start.mjs")))
    result = connect(sandbox, session)
    found = json.loads(run(page, node, str(tmp_path / "finish.mjs"), json.dumps([session["id"], result])))

    assert [project["key"] for project in found["values"]] == ["WEB", "OPS"]


@pytest.mark.django_db(transaction=True)
def test_the_curl_calls_work_as_they_are_pasted(page: Any, sandbox: SandboxThread) -> None:
    head, *calls = snippet(page, "curl").split("\n\n")

    session = json.loads(run(page, "sh", "-eu", stdin=f"{head}\n{calls[0]}"))
    code = connect(sandbox, session)["code"]
    grant = json.loads(run(page, "sh", "-eu", stdin=f"{head}\n{calls[1]}", CODE=code))
    token = json.loads(run(page, "sh", "-eu", stdin=f"{head}\n{calls[2]}"))

    assert grant["status"] == "active"
    assert token["grant"] == grant["id"]


@pytest.mark.django_db(transaction=True)
def test_nothing_secret_is_on_the_page_c3(page: Any) -> None:
    content = page.content.decode()

    assert page.key not in content
    assert page.key.rpartition("_")[2] not in content
