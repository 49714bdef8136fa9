"""Whoever changes the audit log behind the portal's back is found out, and the portal's own role cannot (G3)."""

from __future__ import annotations

import io
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, transaction

from portal import audit_seals
from portal.audit import SYSTEM, record
from portal.audit_seals import COLUMNS, seal_events
from portal.models import AuditEvent, AuditKey, AuditSeal, Event
from tests.factories import CLIENT_SECRET, ApplicationFactory, GrantFactory, database_now
from tests.security.sealed import new_key
from tests.threads import in_thread
from tokens.engine import drain
from tokens.models import Grant
from tokens.tasks import housekeeping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from providers.sandbox.thread import SandboxThread

# An event with the time of another.
ADD = """
INSERT INTO portal_auditevent (at, application_name, event, actor_kind, actor_id, actor_name, subject_kind, subject_id,
    subject_name, detail, request_id)
SELECT at, '', event, actor_kind, '', 'y', '', '', '', '{{}}', '' FROM portal_auditevent WHERE id = {id}
"""

pytestmark = pytest.mark.django_db(transaction=True)


def write(*minutes_ago: float, name: str = "x") -> list[AuditEvent]:
    now = database_now()
    return [
        AuditEvent.objects.create(
            at=now - timedelta(minutes=minutes),
            event=Event.EXPORTED,
            actor_kind="system",
            actor_name=name,
            detail={"of": 'a\tb\n\\N "quoted"'},
        )
        for minutes in minutes_ago
    ]


def change(*statements: str) -> None:
    """Do what the owner of the tables can, without triggers."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            cursor.execute(statement)


def check(**options: Any) -> str:
    """Return the one line of a check that finds all well."""
    out = io.StringIO()
    call_command("check_audit", stdout=out, **options)
    (line,) = out.getvalue().splitlines()
    return line


def found_by_check(**options: Any) -> str:
    """Return what a check says that ends with 1."""
    errors = io.StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("check_audit", stderr=errors, **options)
    assert end.value.code == 1
    return errors.getvalue()


@pytest.fixture
def sealed(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> list[AuditEvent]:
    """Write seven events and seal them, three with a seal."""
    monkeypatch.setattr(audit_seals, "MOST_EVENTS", 3)
    events = write(60, 50, 40, 30, 20, 10, 5)
    seal_events()
    return events


def test_seals_hold_every_event_of_the_past_and_the_check_says_so_in_one_line_g3(
    sealed: list[AuditEvent], caplog: pytest.LogCaptureFixture
) -> None:
    write(0.1)
    caplog.set_level(logging.INFO, "portal.audit_seals")

    seal_events()

    counts = list(AuditSeal.objects.order_by("id").values_list("events", flat=True))
    assert (sum(counts), counts[:2]) == (7, [3, 3])
    line = check()
    last = bytes(AuditSeal.objects.latest("id").digest).hex()
    assert line.startswith("All is well: 7 audit events until ")
    assert line.endswith(f"Not sealed yet: 1. Last seal: {last}")
    assert f": {last}" in caplog.messages[-1]
    assert set(COLUMNS) == {field.column for field in AuditEvent._meta.fields}


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            "UPDATE portal_auditevent SET actor_name = 'y' WHERE id = {id}",
            "3 are there now: at least one changed",
        ),
        ("DELETE FROM portal_auditevent WHERE id = {id}", "2 are there now: 1 gone"),
        (ADD, "4 are there now: 1 added afterwards"),
    ],
    ids=["changed", "deleted", "added"],
)
def test_what_was_done_to_sealed_events_is_found_and_where_g3(
    sealed: list[AuditEvent], statement: str, words: str
) -> None:
    change(statement.format(id=sealed[4].pk))

    told = found_by_check()

    first, second = AuditSeal.objects.order_by("id")[:2]
    assert told.count("audit events were sealed") == 1
    assert told.startswith(f"From {first.until:%Y-%m-%d %H:%M:%S.%f} UTC until {second.until:%Y-%m-%d %H:%M}")
    assert f"3 audit events were sealed, {words}" in told
    # Once that is looked into, the rest can be checked by itself.
    assert check(since=f"{second.until:%Y-%m-%d %H:%M:%S.%f} UTC").startswith("All is well: 1 audit events")


def test_events_that_nobody_seals_are_told_of_g3(transactional_db: None) -> None:
    write(60)
    assert check() == "No seal to check. Workers make them every ten minutes. Not sealed yet: 1."
    write(25 * 60)

    assert "have waited for their seal for more than a day" in found_by_check()


def test_newest_seals_that_were_taken_away_are_missed_by_whoever_noted_one_g3(
    sealed: list[AuditEvent],
) -> None:
    noted = check().rsplit(" ", 1)[1]
    assert check(expect=noted)
    second = AuditSeal.objects.order_by("id")[1]
    change(
        f"DELETE FROM portal_auditseal WHERE id >= {second.pk}",
        f"DELETE FROM portal_auditevent WHERE id >= {sealed[3].pk}",
    )

    assert check().startswith("All is well: 3 audit events")
    assert found_by_check(expect=noted).startswith("The seal that you expect is not there.")


def test_an_event_of_a_transaction_that_is_still_open_is_not_lost_g3(transactional_db: None) -> None:
    write(30)
    began = database_now()

    def seal_and_check() -> tuple[str, Any]:
        seal_events()
        return check(), AuditSeal.objects.get().until

    # A minute later, as far as sealing knows.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit_seals, "MARGIN", timedelta(0))
        with transaction.atomic():
            record(Event.EXPORTED, actor=SYSTEM)
            line, until = in_thread(seal_and_check).result(timeout=30)
        assert line.startswith("All is well: 1 audit events")
        assert until < began + timedelta(seconds=5)
        assert until <= AuditEvent.objects.latest("id").at

        seal_events()

    assert check().startswith("All is well: 2 audit events")


def test_seals_outlive_the_keys_of_their_time_and_need_one_g3(
    sealed: list[AuditEvent], settings: Any
) -> None:
    settings.ENCRYPTION_KEYS = [new_key("new"), *settings.ENCRYPTION_KEYS]
    call_command("rotate_keys", stdout=io.StringIO())
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]

    assert check().startswith("All is well: 7 audit events")

    # Who can only write to the database puts another key there, or none: that is no way to seals of one's own.
    AuditKey.objects.all().delete()
    with pytest.raises(CommandError, match="is gone: the row of portal_auditkey"):
        check()
    change("UPDATE portal_auditseal SET until = until - interval '1 hour'")
    with pytest.raises(audit_seals.AuditKeyError):
        seal_events()
    assert not AuditKey.objects.exists()


@pytest.mark.parametrize("table", ["portal_auditevent", "portal_auditseal"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET id = -id", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_owner_changes_neither_events_nor_seals_by_accident_g3(
    sealed: list[AuditEvent], table: str, statement: str
) -> None:
    with pytest.raises(Exception, match="never changed or deleted"), connection.cursor() as cursor:
        cursor.execute(statement.format(table))


@pytest.fixture
def role(transactional_db: None) -> Iterator[str]:
    """Make a role that owns nothing, and give it what the portal needs."""
    name = f"{connection.settings_dict['NAME']}_web"
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE ROLE "{name}"')
    call_command("database_role", name, stdout=io.StringIO())
    yield name
    with connection.cursor() as cursor:
        cursor.execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')


@pytest.fixture
def as_role(role: str) -> Iterator[None]:
    """Let every connection of this process have only that role's rights."""
    connection.close()
    connection.settings_dict["OPTIONS"]["assume_role"] = role
    yield
    connection.close()
    del connection.settings_dict["OPTIONS"]["assume_role"]


@pytest.mark.usefixtures("as_role")
def test_the_portal_runs_as_a_role_that_cannot_change_the_audit_log_g3(sandbox: SandboxThread) -> None:
    application = ApplicationFactory()
    record(Event.APPLICATION_CREATED, actor=SYSTEM, application=application)
    write(30)
    grant = GrantFactory(revoked=True)
    config = grant.provider_config
    sandbox.register_client(config.client_id, CLIENT_SECRET)
    minted = sandbox.mint(config.client_id, account="jo")[0]
    due = GrantFactory(provider_config=config, due=True, refresh_token=minted["refresh_token"])

    drain()
    housekeeping()
    application.delete()

    assert Grant.objects.get(pk=due.pk).gen == 1
    assert check().startswith("All is well: 1 audit events")
    for statement in (
        "SET portal.audit_retention = 'on'; DELETE FROM portal_auditevent",
        "UPDATE portal_auditevent SET actor_name = 'y'",
        "TRUNCATE portal_auditevent",
        "ALTER TABLE portal_auditevent DISABLE TRIGGER audit_is_append_only",
        "DELETE FROM portal_auditseal",
        "UPDATE portal_auditseal SET events = 0",
        "DELETE FROM portal_auditkey",
        "DELETE FROM django_migrations",
        "SET session_replication_role = replica",
    ):
        with (
            pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)


def test_nothing_is_sealed_while_a_transaction_hides_when_it_began_g3(
    role: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "portal.audit_seals")
    write(30)

    def seal_as_role() -> int:
        with connection.cursor() as cursor:
            cursor.execute(f'SET ROLE "{role}"')
        seal_events()
        return AuditSeal.objects.count()

    with transaction.atomic():
        record(Event.EXPORTED, actor=SYSTEM)
        assert in_thread(seal_as_role).result(timeout=30) == 0

    assert "a transaction is open that hides when it began" in caplog.text
    assert in_thread(seal_as_role).result(timeout=30) == 1


def test_no_role_gets_rights_that_could_change_the_audit_log_anyway_g3(role: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f'GRANT "{connection.settings_dict["USER"] or "postgres"}" TO "{role}"')

    with pytest.raises(CommandError, match="owners can do everything"):
        call_command("database_role", role)
    with pytest.raises(CommandError, match="There is no role 'nobody'"):
        call_command("database_role", "nobody")
