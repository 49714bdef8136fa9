"""The audit log over the API."""

from __future__ import annotations

import pytest

from portal.audit import SYSTEM, record
from portal.models import Event
from tests.factories import ApplicationFactory, GrantFactory, ProviderConfigFactory
from tests.tokens.api.caller import Caller

pytestmark = pytest.mark.django_db


def test_events_are_listed_newest_first_and_page_by_page():
    application = ApplicationFactory()
    caller = Caller(application, "audit:read")
    for number in range(4):
        record(Event.APPLICATION_CHANGED, actor=SYSTEM, application=application, number=number)
    record(Event.APPLICATION_CHANGED, actor=SYSTEM, application=ApplicationFactory())

    first = caller.get("audit", limit=3).json()
    second = caller.get("audit", limit=3, cursor=first["next_cursor"]).json()

    found = [*first["events"], *second["events"]]
    assert [event["detail"].get("number") for event in found] == [3, 2, 1, 0, None]
    # Making the key was the first of all.
    assert found[-1]["event"] == "api_key:created"
    assert second["next_cursor"] is None


def test_events_are_found_by_kind_and_by_grant():
    grant = GrantFactory()
    caller = Caller(grant.application, "audit:read")
    record(Event.GRANT_CONNECTED, actor=SYSTEM, application=grant.application, subject=grant)
    record(Event.GRANT_REVOKED, actor=SYSTEM, application=grant.application, subject=grant)

    by_kind = caller.get("audit", event="grant:revoked").json()["events"]
    by_grant = caller.get("audit", grant=str(grant.pk)).json()["events"]

    assert [event["event"] for event in by_kind] == ["grant:revoked"]
    assert [event["event"] for event in by_grant] == ["grant:revoked", "grant:connected"]
    assert by_grant[0]["subject"]["id"] == str(grant.pk)
    assert caller.get("audit", grant="nothing").json()["events"] == []


def test_d1_the_cursor_of_another_application_leads_nowhere():
    caller = Caller(ApplicationFactory(), "audit:read")
    theirs = record(Event.APPLICATION_CHANGED, actor=SYSTEM, application=ApplicationFactory())

    for cursor in (str(theirs.pk), "x", "9" * 30):
        assert caller.get("audit", cursor=cursor).json()["field"] == "cursor"


def test_d2_a_key_for_one_provider_does_not_read_about_the_others():
    config = ProviderConfigFactory()
    caller = Caller(config.application, "audit:read", provider_ids=["atlassian"])

    response = caller.get("audit")

    assert (response.status_code, response.json()["code"]) == (404, "not_found")
