"""From the link to the result page, over real HTTP to the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.test import Client
from django.urls import reverse

from tests.tokens.connecting import Browser, configured, only_grant, opened
from tokens.models import GrantStatus

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db


def test_a_person_opens_the_link_consents_and_sees_what_was_connected(sandbox: SandboxThread) -> None:
    config = configured(sandbox)
    _, token = opened(config)
    browser = Browser(sandbox)

    link = browser.open(token)
    result = browser.arrive(token)

    assert link.status_code == 200
    assert "Connect Atlassian" in link.content.decode()
    assert "Acme Tasks" in link.content.decode()
    assert "read your Jira projects and issues" in link.content.decode()
    page = result.content.decode()
    assert result.status_code == 200
    assert "sam@acme.example" in page
    assert "acme" in page
    assert only_grant().status == GrantStatus.PENDING
