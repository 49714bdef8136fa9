"""A person removed the app at Atlassian: from the back end's error to a connection that works again, by its link alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.urls import reverse

from tests.factories import CLIENT_SECRET, ProviderConfigFactory
from tests.tokens.api.caller import Caller
from tests.tokens.connecting import RETURN_ORIGIN, RETURN_URL, Browser, path_of, query_of
from tokens.models import Grant

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread
    from tests.conftest import Cast

pytestmark = pytest.mark.django_db(transaction=True)


def test_from_needs_reconnect_to_a_token_with_a_key_that_only_reads(
    cast: Cast, sandbox: SandboxThread
) -> None:
    cast.application.return_origins = [RETURN_ORIGIN]
    cast.application.save()
    config = ProviderConfigFactory(application=cast.application)
    sandbox.register_client(config.client_id, CLIENT_SECRET, redirect_uris=[config.redirect_uri])
    connects, reads = Caller(cast.application, "connect"), Caller(cast.application, "tokens:read")
    browser = Browser(sandbox, account="sam")

    # It was connected as always.
    session = connects.post(
        "connect/sessions", end_user="user-4711", provider="atlassian", return_url=RETURN_URL
    ).json()
    browser.arrive(session["url"].strip("/").rpartition("/")[2])
    back = browser.client.post(reverse("connect-return", args=[session["id"]]))["Location"]
    code = query_of(back.partition("#")[0])["code"]
    grant = connects.post("connect/exchange", code=code, end_user="user-4711").json()["id"]

    # Then access ends: the person removes the app, and the portal finds out when it refreshes next, twice to be sure.
    sandbox.revoke_grant("sam", config.client_id)
    page = cast.client("owner").post(reverse("grant-refresh", args=["acme-tasks", grant]))
    assert page.status_code == 302
    Grant.objects.update(next_attempt_at=None)
    cast.client("owner").post(reverse("grant-refresh", args=["acme-tasks", grant]))
    told = reads.get("token", end_user="user-4711", provider="atlassian").json()
    assert told["code"] == "needs_reconnect"

    # The application shows the link; the person opens it, presses the button, consents, and is led back.
    link = path_of(told["reconnect_url"])
    assert "has lost its access" in browser.client.get(link).content.decode()
    authorize = browser.client.post(link)["Location"]
    result = browser.follow(browser.callback(browser.consent(authorize))).content.decode()
    assert "can use it from now on" in result
    assert "Back to Acme Tasks" in result

    # The same connection works again, and the link says so.
    token = reads.get("token", end_user="user-4711", provider="atlassian").json()
    assert token["grant"] == grant
    assert "This connection works again" in Browser(sandbox).client.get(link).content.decode()
