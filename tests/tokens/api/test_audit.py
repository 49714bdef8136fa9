"""The audit log over the API."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from portal import audit_log
from portal.audit import SYSTEM, record
from portal.models import AuditEvent, Event
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


def all_pages(caller: Caller, **query: Any) -> list[list[int]]:
    """Return the numbers of the events, page by page."""
    pages: list[list[int]] = []
    cursor: str | None = ""
    while cursor is not None:
        told = caller.get("audit", **query, **({"cursor": cursor} if cursor else {})).json()
        pages.append([event["detail"]["number"] for event in told["events"]])
        cursor = told["next_cursor"]
    return pages


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 30])
@pytest.mark.parametrize("by", ["grant", "application"])
def test_events_that_no_index_finds_are_looked_for_so_many_rows_at_a_time(monkeypatch, rows, by):
    monkeypatch.setattr(audit_log, "WINDOW_ROWS", rows)
    grant = GrantFactory()
    caller = Caller(grant.application, "audit:read")
    for number in range(12):
        event = Event.TOKEN_HANDED_OUT if number % 4 == 0 else Event.GRANT_CHANGED
        record(event, actor=SYSTEM, application=grant.application, subject=grant, number=number)
    query = {"event": "token:handed_out", "limit": 2}

    pages = all_pages(caller, **query, **({"grant": str(grant.pk)} if by == "grant" else {}))

    assert [number for page in pages for number in page] == [8, 4, 0]
    # Each page is bounded by what is asked for and by what one call looks through.
    assert all(len(page) <= 2 for page in pages)
    assert len(pages) >= 12 / rows


def test_a_page_about_one_grant_reads_no_more_than_it_shows():
    grant = GrantFactory()
    caller = Caller(grant.application, "audit:read")
    many = 3000
    AuditEvent.objects.bulk_create(
        AuditEvent(
            application_id=grant.application_id,
            event=Event.TOKEN_HANDED_OUT,
            actor_kind="api_key",
            subject_kind="grant",
            subject_id=str(grant.pk),
            detail={"number": number},
        )
        for number in range(many)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE portal_auditevent")
    with CaptureQueriesContext(connection) as queries:
        found = caller.get("audit", grant=str(grant.pk), limit=5).json()["events"]
    asked = next(query["sql"] for query in queries if "LIMIT 6" in query["sql"])

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {asked}")
        plan = json.dumps(cursor.fetchone()[0])

    assert [event["detail"]["number"] for event in found] == [2999, 2998, 2997, 2996, 2995]
    # Nothing is sorted, and no more rows are read.
    assert '"Node Type": "Sort"' not in plan
    assert max(int(rows) for rows in re.findall(r'"Actual Rows": (\d+)', plan)) <= 6


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
