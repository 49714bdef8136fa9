"""The demo that `make run` shows: its applications, each with a client of its own, and its connections."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command

from providers.models import ProviderConfig
from providers.sandbox.demo import TASKS
from providers.spec import Outcome
from tokens.models import Grant, GrantStatus, Trigger
from tokens.refresh import refresh_now

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def demo(settings: Any, sandbox: SandboxThread) -> None:
    settings.DEMO, settings.DEMO_PASSWORD = True, "a password of the demo"


def test_each_application_has_a_client_of_its_own() -> None:
    call_command("seed_demo")
    call_command("seed_example", origin="http://127.0.0.1:8002", stdout=io.StringIO())

    clients = dict(ProviderConfig.objects.values_list("application__name", "client_id"))
    assert set(clients) == {"Acme Wiki", "Acme Issues"}
    assert len({*clients.values(), TASKS.client_id}) == 3


def test_removing_the_app_of_one_application_leaves_the_connections_of_another(
    sandbox: SandboxThread,
) -> None:
    call_command("seed_demo")
    call_command("connect_demo")
    sandbox.mint(TASKS.client_id, account="jo")

    sandbox.revoke_grant("jo", TASKS.client_id)

    committed = refresh_now(Grant.objects.get(end_user="user-1001"), trigger=Trigger.MEMBER)
    assert committed.outcome == Outcome.OK


def test_connecting_the_end_users_twice_changes_nothing() -> None:
    call_command("seed_demo")

    call_command("connect_demo")
    call_command("connect_demo")

    assert Grant.objects.filter(status=GrantStatus.ACTIVE).count() == 3
    assert Grant.objects.filter(status=GrantStatus.PENDING).count() == 1
