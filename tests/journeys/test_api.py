"""A back end's first day: a key, a connect session, the end user's consent, and Jira with a token of theirs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

import pytest
from django.urls import reverse

from portal.api_keys import KEY_PATTERN
from portal.models import AuditEvent
from tests.factories import CLIENT_SECRET, ProviderConfigFactory
from tests.tokens.api.caller import Caller
from tests.tokens.connecting import RETURN_ORIGIN, RETURN_URL, Browser, query_of

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread
    from tests.conftest import Cast

pytestmark = pytest.mark.django_db


def test_from_a_new_key_to_an_answer_from_jira(cast: Cast, sandbox: SandboxThread) -> None:
    cast.application.return_origins = [RETURN_ORIGIN]
    cast.application.save()
    config = ProviderConfigFactory(application=cast.application)
    sandbox.register_client(config.client_id, CLIENT_SECRET, redirect_uris=[config.redirect_uri])

    # An admin makes a key on the portal, and sees it once.
    page = cast.client("admin").post(
        reverse("api-key-create", args=["acme-tasks"]),
        {"name": "production", "permissions": ["tokens:read", "connect"], "days": "365"},
    )
    back_end = Caller(cast.application)
    back_end.text = KEY_PATTERN.search(page.content.decode())[0]

    # The back end makes a link; its user opens it, consents, and is back with a code.
    session = back_end.post(
        "connect/sessions", end_user="user-4711", provider="atlassian", return_url=RETURN_URL
    ).json()
    browser = Browser(sandbox, account="sam")
    browser.arrive(session["url"].strip("/").rpartition("/")[2])
    assert back_end.get("token", end_user="user-4711", provider="atlassian").json()["code"] == "not_confirmed"
    back = browser.client.post(reverse("connect-return", args=[session["id"]]))["Location"]
    code = query_of(back.partition("#")[0])["code"]

    # The back end vouches that it is its user's, and has a token in one call.
    assert back_end.post("connect/exchange", code=code, end_user="user-4711").json()["status"] == "active"
    token = back_end.get("token", end_user="user-4711", provider="atlassian").json()

    # The token opens Jira at the address that came with it.
    (site,) = token["sites"]
    request = Request(f"{site['base_urls']['Jira']}/rest/api/3/myself")
    request.add_header("Authorization", f"{token['token_type']} {token['access_token']}")
    with urlopen(request, timeout=10) as answer:
        assert json.load(answer)["emailAddress"] == "sam@acme.example"

    told = AuditEvent.objects.filter(actor_kind="api_key", actor_name="production").order_by("id")
    assert list(told.values_list("event", flat=True)) == [
        "connect:link_created",
        "grant:confirmed",
        "token:handed_out",
    ]
