"""The audit log: read, filtered, paged, exported."""

from __future__ import annotations

import csv
import datetime as dt

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from portal import audit_log
from portal.audit import Actor, record
from portal.audit_log import AuditFilter, audit_page, in_words
from portal.models import AuditEvent, Event
from portal.models.audit import ActorKind
from tests.factories import GrantFactory, ProviderConfigFactory

pytestmark = pytest.mark.django_db
URL = "/applications/acme-tasks/audit-log/"
EXPORT_URL = "/applications/acme-tasks/audit-log/export/"
JO = Actor(ActorKind.MEMBER, "1", "jo@acme.example", "192.0.2.7", "req-1")


def test_each_event_says_who_when_from_where_and_what(cast):
    record(
        Event.MEMBER_ROLE_CHANGED,
        actor=JO,
        application=cast.application,
        subject_name="sam@acme.example",
        changes={"role": ["Support", "Admin"]},
    )

    page = cast.client("auditor").get(URL).content.decode()

    for text in (
        "Member&#x27;s role changed",
        "sam@acme.example",
        "role: Support → Admin",
        "jo@acme.example",
        "192.0.2.7",
    ):
        assert text in page


def test_a_connection_is_linked(cast):
    grant = GrantFactory(provider_config=ProviderConfigFactory(application=cast.application))
    record(Event.GRANT_CONNECTED, actor=JO, application=cast.application, subject=grant)

    page = cast.client("auditor").get(URL).content.decode()

    assert reverse("grant-detail", args=["acme-tasks", grant.pk]) in page


@pytest.mark.parametrize(
    ("who", "status"), [("owner", 200), ("admin", 200), ("auditor", 200), ("support", 403), ("stranger", 404)]
)
def test_the_log_is_for_those_who_may_read_it(cast, who, status):
    assert cast.client(who).get(URL).status_code == status
    assert cast.client(who).post(EXPORT_URL).status_code == status


def test_another_applications_events_stay_away_d1(cast):
    _events(cast, 1, application=cast.strangers_application, subject_name="their secret business")

    assert "their secret business" not in cast.client("owner").get(URL).content.decode()
    assert "their secret business" not in _export(cast)


def test_an_empty_log_says_so(cast):
    assert "Nothing has happened yet" in cast.client("owner").get(URL).content.decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"event": "member:invited"}, {"invited"}),
        ({"who": "JO@"}, {"invited", "removed"}),
        ({"who": "sam"}, {"handed out"}),
        ({"text": "handed"}, {"handed out"}),
        ({"text": "reporting"}, {"handed out"}),
        ({"text": "192.0.2"}, {"invited", "removed"}),
        ({"text": "req-1 invited"}, {"invited"}),
        ({"since": "2025-03-02"}, {"removed", "handed out"}),
        ({"until": "2025-03-02"}, {"invited", "removed"}),
        ({"since": "2025-03-02", "until": "2025-03-02"}, {"removed"}),
        ({"who": "jo", "event": "member:removed"}, {"removed"}),
        ({"text": "100%"}, set()),
    ],
)
def test_filters_find_what_they_say(cast, query, found):
    sam = Actor(ActorKind.API_KEY, "2", "Sam's key")
    _dated(cast, Event.MEMBER_INVITED, JO, "2025-03-01T23:59:59", "invited")
    _dated(cast, Event.MEMBER_REMOVED, JO, "2025-03-02T00:00:00", "removed")
    _dated(cast, Event.TOKEN_HANDED_OUT, sam, "2025-03-03T12:00:00", "handed out", purpose="reporting")

    response = cast.client("owner").get(URL, query)

    assert {event.subject_name for event, _ in response.context["rows"]} == found


def test_what_was_filtered_for_stays_in_the_fields(cast):
    page = (
        cast.client("owner")
        .get(URL, {"who": "jo", "event": "member:invited", "since": "2025-03-01"})
        .content.decode()
    )

    assert 'value="jo"' in page
    assert '<option value="member:invited" selected>' in page
    assert 'value="2025-03-01"' in page
    assert "Nothing matches" in page


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"since": "yesterday"}, "Write the date like 2025-03-31."),
        ({"since": "2025-03-02", "until": "2025-03-01"}, "This is before the first day."),
        ({"event": "nonsense"}, "Select a valid choice"),
    ],
)
def test_a_filter_that_makes_no_sense_is_explained(cast, query, said):
    response = cast.client("owner").get(URL, query)

    assert response.status_code == 422
    assert said in response.content.decode()


def test_paging_walks_through_everything_once_and_back(cast):
    _events(cast, 120)
    client = cast.client("owner")
    seen, url, pages = [], "", []
    while True:
        response = client.get(URL + url)
        names = [event.subject_name for event, _ in response.context["rows"]]
        pages.append(names)
        seen += names
        url = response.context["older_url"]
        if not url:
            break
    assert seen == [f"event {number}" for number in reversed(range(120))]
    assert [len(page) for page in pages] == [50, 50, 20]

    back = client.get(URL + response.context["newer_url"])
    assert [event.subject_name for event, _ in back.context["rows"]] == pages[1]
    first = client.get(URL + back.context["newer_url"])
    assert [event.subject_name for event, _ in first.context["rows"]] == pages[0]


def test_paging_keeps_events_of_the_same_instant_apart(cast):
    AuditEvent.objects.bulk_create(_unsaved(cast, number, at=timezone.now()) for number in range(70))
    first = audit_page(cast.application, AuditFilter())

    second = audit_page(cast.application, AuditFilter(), before=first.older)

    assert len({event.pk for event in first.events + second.events}) == 70


def test_a_text_is_looked_for_in_a_window_and_the_page_says_so(cast, monkeypatch):
    monkeypatch.setattr(audit_log, "WINDOW_ROWS", 30)
    _events(cast, 100)
    client = cast.client("owner")

    response = client.get(URL, {"text": "event 5"})
    assert "Looked back to" in response.content.decode()
    found = [event.subject_name for event, _ in response.context["rows"]]
    assert found == ["event 95", "event 85", "event 75"]
    while response.context["older_url"]:
        response = client.get(URL + response.context["older_url"])
        found += [event.subject_name for event, _ in response.context["rows"]]

    with_a_five = [95, 85, 75, 65, *range(59, 49, -1), 45, 35, 25, 15, 5]
    assert found == [f"event {number}" for number in with_a_five]


def test_hand_outs_that_are_few_are_looked_for_in_a_window_as_well(cast, monkeypatch):
    monkeypatch.setattr(audit_log, "WINDOW_ROWS", 30)
    for number in range(2):
        record(Event.TOKEN_HANDED_OUT, actor=JO, application=cast.application, subject_name=f"token {number}")
        _events(cast, 40)
    client = cast.client("owner")

    response, found = client.get(URL, {"event": "token:handed_out"}), []
    assert "Looked back to" in response.content.decode()
    while response.context["older_url"]:
        found.append([event.subject_name for event, _ in response.context["rows"]])
        response = client.get(URL + response.context["older_url"])

    assert found == [[], ["token 1"]]
    assert [event.subject_name for event, _ in response.context["rows"]] == ["token 0"]


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 10, 50])
def test_no_event_falls_between_two_windows_either_way(cast, monkeypatch, rows):
    monkeypatch.setattr(audit_log, "WINDOW_ROWS", rows)
    _events(cast, 20)
    wanted = AuditFilter(text="event")
    everything = [f"event {number}" for number in range(19, -1, -1)]

    page = audit_page(cast.application, wanted)
    found = [event.subject_name for event in page.events]
    while page.older:
        page = audit_page(cast.application, wanted, before=page.older)
        found += [event.subject_name for event in page.events]
    oldest = AuditEvent.objects.earliest("at", "id")
    page = audit_page(cast.application, wanted, after=oldest.pk)
    back = {event.subject_name for event in page.events}
    while page.newer:
        page = audit_page(cast.application, wanted, after=page.newer)
        back |= {event.subject_name for event in page.events}

    assert found == everything
    assert back >= {*everything} - {oldest.subject_name}


@pytest.mark.parametrize(
    "cursor", ["before=x", "before=-1", "after=99999999999999999999", "before=0", "before=%C2%B2"]
)
def test_a_cursor_that_is_not_ours_shows_the_newest_page(cast, cursor):
    _events(cast, 3)

    response = cast.client("owner").get(f"{URL}?{cursor}")

    assert len(response.context["rows"]) == 3


def test_a_cursor_of_another_application_is_not_believed_d1(cast):
    _events(cast, 3)
    [theirs] = _events(cast, 1, application=cast.strangers_application)

    response = cast.client("owner").get(f"{URL}?after={theirs.pk}")

    assert len(response.context["rows"]) == 3


def test_the_export_holds_what_the_filter_finds_and_is_itself_kept(cast, monkeypatch):
    monkeypatch.setattr(audit_log, "EXPORT_ROWS", 7)
    _events(cast, 20)
    record(Event.MEMBER_INVITED, actor=JO, application=cast.application, subject_name="=cmd|'/C calc'!A0")

    rows = list(csv.reader(_export(cast).splitlines()))

    assert len(rows) == 1 + 20 + 1 + 1
    assert rows[0][0] == "when"
    assert rows[1][4] == "audit:exported"
    assert rows[2][5] == "'=cmd|'/C calc'!A0"
    assert len(list(csv.reader(_export(cast, event="audit:exported").splitlines()))) == 1 + 2
    exported = AuditEvent.objects.filter(event=Event.EXPORTED).first()
    assert exported.detail == {"filters": {"event": "audit:exported"}}
    assert exported.actor_name == "auditor@acme.example"


def test_an_export_by_a_link_is_not_possible(cast):
    assert cast.client("owner").get(EXPORT_URL).status_code == 405


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ({}, ""),
        ({"role": "Admin", "again": True, "left": False, "why": ""}, "role: Admin; again"),
        (
            {"changes": {"return_origins": [[], ["https://a.example"]]}},
            "return origins: none → https://a.example",
        ),
        ({"scopes": ["read:me", "offline_access"]}, "scopes: read:me, offline_access"),
        ({"filters": {"who": "jo"}}, "filters: who: jo"),
        (
            {"problem": "many_refused", "gen": 3, "changes": {"types": [[], ["grant.revoked"]]}},
            "problem: many refused; generation: 3; types: none → A connection was taken back",
        ),
        (
            {"permissions": ["tokens:read", "proxy"]},
            "permissions: Read access tokens, Call providers through the portal",
        ),
        ({"count": 0}, ""),
        ({"count": 3}, "count: 3"),
        ({"expires_at": "2027-11-28T21:00:59.091610+00:00"}, "expires at: 2027-11-28 21:00 UTC"),
    ],
)
def test_details_are_said_in_words(detail, words):
    assert in_words(AuditEvent(detail=detail)) == words


def test_the_database_refuses_to_change_or_delete_an_event_g3(cast):
    from django.db import DatabaseError, transaction

    [event] = _events(cast, 1)

    for change in (lambda: AuditEvent.objects.filter(pk=event.pk).update(actor_name="x"), event.delete):
        with pytest.raises(DatabaseError, match="never changed or deleted"), transaction.atomic():
            change()


def test_the_page_needs_few_queries(cast, django_assert_max_num_queries):
    _events(cast, 60)
    client = cast.client("owner")

    with django_assert_max_num_queries(10):
        client.get(URL, {"text": "event", "who": "jo"})


def test_a_page_is_read_through_an_index(cast, subtests):
    """A plan that sorts, or scans the table, would not stay fast at a million rows."""
    start = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    AuditEvent.objects.bulk_create(
        _unsaved(cast, number, at=start + dt.timedelta(minutes=number), event=Event.TOKEN_HANDED_OUT)
        for number in range(30_000)
    )
    _events(cast, 10)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE portal_auditevent")

    for wanted in (
        AuditFilter(),
        AuditFilter(event="member:invited"),
        AuditFilter(since=dt.date(2025, 1, 1), until=dt.date(2025, 1, 2)),
        AuditFilter(text="nowhere"),
    ):
        with subtests.test(wanted=str(wanted)):
            _read_through_an_index(cast.application, wanted)


def _read_through_an_index(application, wanted):
    with CaptureQueriesContext(connection) as queries:
        audit_page(application, wanted)

    for query in queries:
        if "LIMIT 1" in query["sql"] and "OFFSET" not in query["sql"]:
            continue
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {query['sql']}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert "Index" in plan, plan
        assert "Seq Scan" not in plan, plan
        assert "Sort Key: at DESC" not in plan or "Incremental" in plan, plan


def _events(cast, number, *, application=None, **values):
    return [
        record(
            Event.MEMBER_INVITED,
            actor=JO,
            application=application or cast.application,
            **{"subject_name": f"event {count}", **values},
        )
        for count in range(number)
    ]


def _unsaved(cast, number, *, at, event=Event.MEMBER_INVITED):
    return AuditEvent(
        application_id=cast.application.pk,
        event=event,
        actor_kind="member",
        at=at,
        subject_name=f"event {number}",
    )


def _dated(cast, event, actor, at, name, **detail):
    AuditEvent.objects.create(
        application_id=cast.application.pk,
        event=event,
        actor_kind=actor.kind,
        actor_name=actor.name,
        ip_address=actor.ip_address,
        request_id=actor.request_id,
        subject_name=name,
        detail=detail,
        at=dt.datetime.fromisoformat(at).replace(tzinfo=dt.UTC),
    )


def _export(cast, **data):
    response = cast.client("auditor").post(EXPORT_URL, data)
    return b"".join(response.streaming_content).decode()
