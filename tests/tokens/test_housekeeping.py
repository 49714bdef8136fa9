"""What has had its time is erased; what has not stays."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from django.db import transaction

from portal.encryption import seal
from portal.models import AuditEvent, Event
from tests.factories import CANARY, GrantFactory, database_now
from tests.threads import in_thread
from tokens.housekeeping import tidy
from tokens.models import (
    AuthorizationRequest,
    Confirmation,
    ConnectSession,
    Grant,
    GrantStatus,
    GrantTokens,
    RefreshAttempt,
    RefreshCount,
    Trigger,
)
from tokens.models.connect import SessionStatus

if TYPE_CHECKING:
    from typing import Any

pytestmark = pytest.mark.django_db


def make_session(**fields: Any) -> ConnectSession:
    grant = GrantFactory()
    fields.setdefault("expires_at", database_now() + timedelta(hours=1))
    fields.setdefault("link_digest", str(grant.pk))
    return ConnectSession.objects.create(
        application=grant.application,
        provider_config=grant.provider_config,
        confirmation=Confirmation.MEMBER,
        end_user=grant.end_user,
        **fields,
    )


def test_tokens_that_wait_for_a_choice_of_sites_are_erased_with_their_session() -> None:
    session = make_session(status=SessionStatus.CHOOSING, expires_at=database_now() - timedelta(minutes=1))
    seal(session, "exchanged", f"{CANARY}-tokens")
    session.save()

    tidy()

    session.refresh_from_db()
    assert session.exchanged is None
    assert (session.status, session.failure) == (SessionStatus.FAILED, "abandoned")


def test_a_session_that_is_still_good_keeps_what_waits() -> None:
    session = make_session(status=SessionStatus.CHOOSING)
    seal(session, "exchanged", f"{CANARY}-tokens")
    session.save()

    tidy()

    session.refresh_from_db()
    assert session.exchanged is not None


def test_a_connection_that_nobody_confirmed_is_taken_back() -> None:
    old, young = GrantFactory(pending=True), GrantFactory(pending=True)
    Grant.objects.filter(pk=old.pk).update(consented_at=database_now() - timedelta(days=8))

    tidy()

    assert Grant.objects.get(pk=old.pk).status == GrantStatus.REVOKED
    assert not GrantTokens.objects.filter(grant=old).exists()
    assert Grant.objects.get(pk=young.pk).status == GrantStatus.PENDING
    assert AuditEvent.objects.filter(event=Event.GRANT_REVOKED).count() == 1


def test_the_journal_the_counts_and_old_sessions_are_kept_as_long_as_the_settings_say() -> None:
    grant = GrantFactory()
    for epoch, days in ((1, 31), (2, 29)):
        attempt = RefreshAttempt.objects.create(
            grant=grant, provider_config=grant.provider_config, gen=0, epoch=epoch, trigger=Trigger.BEAT
        )
        RefreshAttempt.objects.filter(pk=attempt.pk).update(claimed_at=database_now() - timedelta(days=days))
    for days in (91, 89):
        RefreshCount.objects.create(
            provider_config=grant.provider_config,
            application=grant.application,
            starts_at=database_now() - timedelta(days=days),
            outcome="ok",
        )
    long_over = database_now() - timedelta(days=31)
    make_session(expires_at=long_over)
    make_session(expires_at=long_over, grant=GrantFactory(revoked=True))
    # Its end user's own page knows the browser by it.
    of_a_living_one = make_session(expires_at=long_over, grant=GrantFactory())
    kept = make_session(expires_at=database_now() - timedelta(days=29))
    for days in (2, 0):
        AuthorizationRequest.objects.create(
            session=kept,
            state_digest=f"state-{days}",
            browser_digest="browser",
            client_id="client",
            redirect_uri="https://portal.example/",
            token_url="https://provider.example/",
            expires_at=database_now() - timedelta(days=days),
        )

    tidy()

    assert list(RefreshAttempt.objects.values_list("epoch", flat=True)) == [2]
    assert RefreshCount.objects.count() == 1
    assert set(ConnectSession.objects.all()) == {kept, of_a_living_one}
    assert AuthorizationRequest.objects.get().state_digest == "state-0"


def test_doing_it_twice_does_no_harm() -> None:
    grant = GrantFactory()

    tidy()
    tidy()

    assert Grant.objects.get(pk=grant.pk).status == GrantStatus.ACTIVE
    assert GrantTokens.objects.filter(grant=grant).exists()


def test_a_revoked_connection_is_listed_as_long_as_the_settings_say() -> None:
    old, young, alive = GrantFactory(revoked=True), GrantFactory(revoked=True), GrantFactory()
    Grant.objects.filter(pk=old.pk).update(revoked_at=database_now() - timedelta(days=366))

    tidy()

    assert set(Grant.objects.values_list("pk", flat=True)) == {young.pk, alive.pk}


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_somebody_holds_is_erased_another_time() -> None:
    held = GrantFactory(revoked=True)
    GrantFactory(revoked=True)
    Grant.objects.update(revoked_at=database_now() - timedelta(days=366))

    with transaction.atomic():
        Grant.objects.select_for_update().get(pk=held.pk)
        in_thread(tidy).result(30)
        left = list(Grant.objects.values_list("pk", flat=True))
    tidy()

    assert left == [held.pk]
    assert not Grant.objects.exists()
