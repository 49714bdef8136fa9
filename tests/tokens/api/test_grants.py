"""Grants over the API: listed, looked at, revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal.models import AuditEvent, Event
from tests.factories import GrantFactory
from tests.tokens.api.caller import Caller
from tests.tokens.connecting import configured
from tokens.models import Grant, GrantStatus, GrantTokens

if TYPE_CHECKING:
    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db


@pytest.fixture
def config(sandbox: SandboxThread) -> ProviderConfig:
    return configured(sandbox)


@pytest.fixture
def caller(config: ProviderConfig) -> Caller:
    return Caller(config.application)


def test_pages_hold_every_grant_once(caller, config):
    made = {str(GrantFactory(provider_config=config).pk) for _ in range(5)}
    seen: list[str] = []
    cursor = ""

    while True:
        page = caller.get("grants", limit=2, **({"cursor": cursor} if cursor else {})).json()
        seen += [grant["id"] for grant in page["grants"]]
        cursor = page["next_cursor"]
        if not cursor:
            break

    assert len(seen) == 5
    assert set(seen) == made


def test_grants_are_found_by_end_user_provider_and_status(caller, config):
    wanted = GrantFactory(provider_config=config, end_user="user-1")
    GrantFactory(provider_config=config, end_user="user-2")
    GrantFactory(provider_config=config, end_user="user-1", revoked=True)

    found = caller.get("grants", end_user="user-1", provider="atlassian", status="active").json()["grants"]

    assert [grant["id"] for grant in found] == [str(wanted.pk)]
    assert caller.get("grants", provider="github").json() == {"grants": [], "next_cursor": None}


def test_a_page_takes_the_same_number_of_statements_however_long_it_is(
    caller, config, django_assert_max_num_queries
):
    for _ in range(6):
        GrantFactory(provider_config=config)

    with django_assert_max_num_queries(4):
        assert len(caller.get("grants").json()["grants"]) == 6


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 101}, {"cursor": "x"}, {"status": "fine"}, {"end_user": "a\x00"}]
)
def test_a_wrong_filter_is_refused_by_name(caller, query):
    response = caller.get("grants", **query)

    assert (response.status_code, response.json()["code"]) == (400, "bad_field")
    assert response.json()["field"] in query


def test_a_filter_given_twice_is_refused(caller):
    assert caller.call("get", "grants?end_user=a&end_user=b").json()["field"] == "end_user"


def test_a_grant_is_shown_without_its_tokens(caller, config):
    grant = GrantFactory(provider_config=config, label="Sam's Jira")

    shown = caller.get(f"grants/{grant.pk}").json()

    assert (shown["id"], shown["label"], shown["status"]) == (str(grant.pk), "Sam's Jira", "active")
    assert shown["account"]["email"] == grant.account_email
    assert not any("token" in name for name in shown)


def test_a_deleted_grant_is_revoked_and_says_what_the_provider_answered(caller, config):
    grant = GrantFactory(provider_config=config)

    response = caller.delete(f"grants/{grant.pk}")
    again = caller.delete(f"grants/{grant.pk}")

    assert response.status_code == 200
    assert response.json()["status"] == "revoked"
    assert response.json()["upstream_revocation"]
    assert again.json() == response.json()
    assert Grant.objects.get().status == GrantStatus.REVOKED
    assert not GrantTokens.objects.exists()
    assert AuditEvent.objects.get(event=Event.GRANT_REVOKED).actor_name == "back end"
