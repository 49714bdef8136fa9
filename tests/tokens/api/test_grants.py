"""Grants over the API: listed, looked at, revoked."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from portal.models import AuditEvent, Event
from tests.factories import GrantFactory, database_now
from tests.tokens.api.caller import Caller
from tests.tokens.connecting import RETURN_URL, configured
from tokens.models import ConnectSession, Grant, GrantStatus, GrantTokens, RefreshAttempt, Site

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


def test_grants_are_found_by_a_site_that_the_end_user_chose(caller, config):
    wanted = GrantFactory(provider_config=config, site_names=["acme", "labs"])
    GrantFactory(provider_config=config, site_names=["northwind"])
    Site.objects.filter(name="labs").update(is_chosen=False)

    for site in ("acme", "cloud-acme", "https://acme.atlassian.net", "https://acme.atlassian.net/"):
        assert [one["id"] for one in caller.get("grants", site=site).json()["grants"]] == [str(wanted.pk)]
    assert caller.get("grants", site="labs").json()["grants"] == []


@pytest.mark.parametrize(
    "query",
    [
        {"end_user": ""},
        {"site": ""},
        {"limit": 0},
        {"limit": 101},
        {"cursor": "x"},
        {"status": "fine"},
        {"end_user": "a\x00"},
    ],
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


def test_label_and_metadata_are_changed_and_found_again(caller, config):
    grant = GrantFactory(provider_config=config, end_user="user-1", label="old")

    changed = caller.patch(f"grants/{grant.pk}", label="Sales", metadata={"plan": "team"}).json()
    caller.patch(f"grants/{grant.pk}", metadata={"seats": "7"})

    assert (changed["label"], changed["metadata"]) == ("Sales", {"plan": "team"})
    shown = caller.get(f"grants/{grant.pk}").json()
    assert (shown["label"], shown["metadata"]) == ("Sales", {"seats": "7"})
    # What people search for on the portal is told too.
    assert "sales" in Grant.objects.get().search_text
    assert "old" not in Grant.objects.get().search_text
    first, second = AuditEvent.objects.filter(event=Event.GRANT_CHANGED).order_by("id")
    assert first.detail["changes"] == {"label": ["old", "Sales"], "metadata": [[], ["plan"]]}
    assert "label" not in second.detail["changes"]


def test_a_change_that_changes_nothing_writes_nothing(caller, config):
    grant = GrantFactory(provider_config=config, label="Sales")

    assert caller.patch(f"grants/{grant.pk}", label="Sales", metadata={}).status_code == 200
    assert caller.patch(f"grants/{grant.pk}").status_code == 200
    assert not AuditEvent.objects.filter(event=Event.GRANT_CHANGED).exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("label", None),
        ("label", "x" * 201),
        ("label", "a\u0000"),
        ("metadata", None),
        ("metadata", ["a"]),
        ("metadata", {"a": 1}),
        ("metadata", {"a": {"b": "c"}}),
        ("metadata", {"a": "\ud800"}),
        ("metadata", {"": "a"}),
        ("metadata", {"k" * 41: "a"}),
        ("metadata", {"a": "x" * 501}),
        ("metadata", {str(number): "x" for number in range(51)}),
        ("status", "active"),
    ],
)
def test_d7_what_cannot_be_written_is_refused_by_name(caller, config, field, value):
    grant = GrantFactory(provider_config=config, revoked=True)
    before = Grant.objects.values().get()

    response = caller.patch(f"grants/{grant.pk}", **{field: value})

    assert (response.status_code, response.json()["field"]) == (400, field)
    assert Grant.objects.values().get() == before


def test_a_refresh_brings_a_new_token_once_for_two_clicks(caller, config, sandbox):
    tokens = sandbox.mint(config.client_id, account="jo")[0]
    grant = GrantFactory(provider_config=config, refresh_token=tokens["refresh_token"])

    refreshed = caller.post(f"grants/{grant.pk}/refresh")
    again = caller.post(f"grants/{grant.pk}/refresh")

    assert (refreshed.status_code, again.status_code) == (200, 200)
    assert refreshed.json()["refreshed_at"] > f"{grant.refreshed_at:%Y-%m-%dT%H:%M:%SZ}"
    assert RefreshAttempt.objects.get().trigger == "api"
    assert AuditEvent.objects.get(event=Event.GRANT_REFRESH_REQUESTED).actor_name == "back end"


def test_a_refresh_that_ends_the_grant_says_how_to_reconnect(caller, config, settings):
    grant = GrantFactory(provider_config=config, refresh_token="nobody-knows-it")

    first = caller.post(f"grants/{grant.pk}/refresh")
    # Once more, to be sure: a sibling's late success may still land.
    Grant.objects.update(next_attempt_at=None)
    second = caller.post(f"grants/{grant.pk}/refresh")
    third = caller.post(f"grants/{grant.pk}/refresh")

    assert (first.status_code, first.json()["code"]) == (503, "provider_unavailable")
    for response in (second, third):
        assert (response.status_code, response.json()["code"]) == (409, "needs_reconnect")
        assert (
            response.json()["reconnect"]["url"] == f"{settings.PUBLIC_URL}/api/v1/grants/{grant.pk}/reconnect"
        )
    # A program in a loop must not ask for ever what a person would have to answer.
    assert RefreshAttempt.objects.count() == 2


def test_a_refresh_waits_out_a_pause(caller, config):
    grant = GrantFactory(provider_config=config, next_attempt_at=database_now() + timedelta(minutes=1))

    response = caller.post(f"grants/{grant.pk}/refresh")

    assert (response.status_code, response.json()["code"]) == (503, "provider_unavailable")
    assert response.json()["retry_after"] == int(response["Retry-After"])
    assert not RefreshAttempt.objects.exists()


def test_a_reconnect_link_is_one_call(caller, config):
    grant = GrantFactory(provider_config=config, needs_reconnect=True, end_user="user-1", label="Sales")

    unknown = caller.post(f"grants/{grant.pk}/reconnect")
    opened = caller.post(f"grants/{grant.pk}/reconnect", return_url=RETURN_URL)

    assert (unknown.status_code, unknown.json()["field"]) == (400, "return_url")
    assert opened.status_code == 201
    session = ConnectSession.objects.get()
    assert (session.reconnect_grant_id, session.end_user, session.label) == (grant.pk, "user-1", "Sales")
    assert opened.json()["id"] == str(session.pk)
    # From now on the way back is known.
    ConnectSession.objects.update(grant=grant.pk)
    assert caller.post(f"grants/{grant.pk}/reconnect").status_code == 201


def test_what_was_revoked_is_not_reconnected(caller, config):
    grant = GrantFactory(provider_config=config, revoked=True)

    response = caller.post(f"grants/{grant.pk}/reconnect", return_url=RETURN_URL)

    assert (response.status_code, response.json()["code"]) == (409, "revoked")


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
