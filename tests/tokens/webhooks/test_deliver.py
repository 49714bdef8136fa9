"""Messages on their way, over real HTTP: signed, repeated, in order, and ended where there is no use (F1-F5)."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

import pytest
from django.db import connection
from standardwebhooks import Webhook, WebhookVerificationError

from portal.audit import SYSTEM, record
from portal.models import AuditEvent, Event, WebhookAttempt, WebhookEndpoint, WebhookMessage
from portal.models.webhooks import DisabledReason
from tests.factories import CANARY, GrantFactory, MembershipFactory
from tests.providers.peer import Peer
from tests.tokens.webhooks.conftest import due_now
from tokens.clock import database_now
from tokens.revoke import revoke
from tokens.webhooks import claim, endpoints, settle, signing
from tokens.webhooks.claim import claim_due
from tokens.webhooks.deliver import deliver
from tokens.webhooks.mail import mail_about_disabled

pytestmark = pytest.mark.django_db


def happen(grant, *events: Event) -> None:
    for event in events:
        record(event, actor=SYSTEM, application=grant.application, subject=grant)


def message() -> WebhookMessage:
    return WebhookMessage.objects.get()


def wait_of(message: WebhookMessage) -> timedelta:
    """Return how long a message waits for its next try."""
    assert message.next_attempt_at is not None
    return message.next_attempt_at - database_now()


def test_f1_a_message_verifies_with_the_reference_library(new_endpoint, receiver):
    grant = GrantFactory(end_user="user-4711")
    _, secret = new_endpoint(grant.application)
    revoke(grant, actor=SYSTEM)

    assert deliver() == 1

    (request,) = receiver.received
    assert request.verify(secret)["data"]["end_user"] == "user-4711"
    assert request.headers["content-type"] == "application/json"
    assert request.path.startswith("/hook?key=")
    assert message().status == "delivered"
    assert request.id == message().public_id
    attempt = WebhookAttempt.objects.get()
    assert (attempt.outcome, attempt.http_status, attempt.number) == ("taken", 204, 1)
    assert deliver() == 0
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(request.body.replace(b"4711", b"4712"), request.headers)


def test_f2_a_try_after_a_failure_has_the_same_id_and_body_and_a_time_of_its_own(new_endpoint, receiver):
    grant = GrantFactory()
    _, secret = new_endpoint(grant.application)
    receiver.answers[:] = [(500, "broken"), 200]
    happen(grant, Event.GRANT_RECOVERED)

    deliver()
    assert timedelta(seconds=3) < wait_of(message()) < timedelta(seconds=6)
    due_now()
    deliver()

    first, second = receiver.received
    assert first.id == second.id
    assert first.body == second.body
    first.verify(secret)
    second.verify(secret)
    attempts = WebhookAttempt.objects.order_by("number")
    assert attempts[0].started_at < attempts[1].started_at
    for request, attempt in zip((first, second), attempts, strict=True):
        assert int(request.headers["webhook-timestamp"]) == int(attempt.started_at.timestamp())
    log = attempts.values_list("outcome", "http_status", "excerpt")
    assert list(log) == [("status", 500, "broken"), ("taken", 200, "")]


def test_f3_during_a_rotation_both_secrets_sign_and_afterwards_only_the_new_one(new_endpoint, receiver):
    grant = GrantFactory()
    endpoint, old = new_endpoint(grant.application)
    new = endpoints.rotate(endpoint, overlap=timedelta(hours=24), actor=SYSTEM)

    happen(grant, Event.GRANT_RECOVERED)
    deliver()
    WebhookEndpoint.objects.update(earlier_secret_until=database_now() - timedelta(seconds=1))
    happen(grant, Event.GRANT_RECOVERED)
    deliver()

    during, after = receiver.received
    assert len(during.headers["webhook-signature"].split()) == 2
    during.verify(old)
    during.verify(new)
    after.verify(new)
    with pytest.raises(WebhookVerificationError):
        after.verify(old)


def test_f3_a_secret_that_leaked_signs_nothing_from_the_next_message_on(new_endpoint, receiver):
    grant = GrantFactory()
    endpoint, old = new_endpoint(grant.application)
    happen(grant, Event.GRANT_RECOVERED)
    new = endpoints.rotate(endpoint, overlap=timedelta(0), actor=SYSTEM)

    deliver()

    receiver.received[0].verify(new)
    with pytest.raises(WebhookVerificationError):
        receiver.received[0].verify(old)
    assert WebhookEndpoint.objects.get().earlier_secret is None


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((302, "", {"Location": "/elsewhere"}), "redirected"),
        ((307, "", {"Location": "/elsewhere"}), "redirected"),
        (400, "status"),
        (401, "status"),
        (500, "status"),
        (429, "busy"),
        (502, "busy"),
        (504, "busy"),
    ],
)
def test_f5_only_2xx_is_success_and_no_redirect_is_followed(new_endpoint, receiver, answer, outcome):
    grant = GrantFactory()
    new_endpoint(grant.application)
    receiver.answers[:] = [answer]
    happen(grant, Event.GRANT_RECOVERED)

    deliver()

    assert [request.path.partition("?")[0] for request in receiver.received] == ["/hook"]
    assert WebhookAttempt.objects.get().outcome == outcome
    assert message().status == "pending"


def test_f5_what_waits_is_tried_for_three_days_with_growing_pauses_and_then_given_up(new_endpoint, receiver):
    grant = GrantFactory()
    new_endpoint(grant.application)
    receiver.answers[:] = [500]
    happen(grant, Event.GRANT_RECOVERED)

    pauses = []
    for _ in range(len(settle.PAUSES)):
        due_now()
        deliver()
        pauses.append(wait_of(message()))
    due_now()
    deliver()

    for planned, pause in zip(settle.PAUSES, pauses, strict=True):
        assert planned - timedelta(seconds=2) < pause <= planned * (1 + settle.JITTER)
    assert timedelta(days=3) < sum(pauses, timedelta(0)) < timedelta(days=4)
    assert len(receiver.received) == 10
    assert message().status == "failed"
    assert len({request.id for request in receiver.received}) == 1


def test_f5_retry_after_is_honoured_for_the_message_and_for_the_endpoint(new_endpoint, receiver):
    first = GrantFactory()
    new_endpoint(first.application)
    receiver.answers[:] = [(429, "", {"Retry-After": "3600"}), 200]
    happen(first, Event.GRANT_RECOVERED)
    deliver()
    second = GrantFactory(provider_config=first.provider_config)
    happen(second, Event.GRANT_RECOVERED)

    assert deliver() == 0

    waits = WebhookMessage.objects.order_by("id")[0]
    assert timedelta(minutes=59) < wait_of(waits) <= timedelta(hours=1)
    pause = WebhookEndpoint.objects.get().paused_until
    assert pause is not None
    assert pause > database_now() + timedelta(minutes=59)


def test_f5_a_longer_retry_after_than_a_day_is_cut(new_endpoint, receiver):
    grant = GrantFactory()
    new_endpoint(grant.application)
    receiver.answers[:] = [(503, "", {"Retry-After": "999999999"})]
    happen(grant, Event.GRANT_RECOVERED)

    deliver()

    assert wait_of(message()) <= timedelta(days=1)


def test_f5_410_disables_the_endpoint_and_its_owners_get_one_mail(new_endpoint, receiver, mailoutbox):
    grant = GrantFactory()
    endpoint, _ = new_endpoint(grant.application)
    owner = MembershipFactory(application=grant.application)
    MembershipFactory(application=grant.application, role="admin")
    receiver.answers[:] = [410]
    happen(grant, Event.GRANT_RECOVERED)

    deliver()
    mail_about_disabled()
    mail_about_disabled()
    happen(grant, Event.GRANT_REVOKED)
    due_now()

    assert deliver() == 0
    endpoint.refresh_from_db()
    assert endpoint.disabled_reason == "gone"
    (mail,) = mailoutbox
    assert mail.to == [owner.user.email]
    assert "410 Gone" in mail.body
    assert endpoint.get_absolute_url() in mail.body
    assert CANARY not in mail.body
    assert AuditEvent.objects.get(event=Event.WEBHOOK_DISABLED).actor_name == "portal"
    assert message().status == "pending"

    receiver.answers[:] = [200]
    endpoints.enable(endpoint, actor=SYSTEM)
    deliver()
    assert message().status == "delivered"
    assert [request.type for request in receiver.received] == ["grant.recovered"] * 2


def test_f5_an_endpoint_that_takes_nothing_for_days_is_disabled_and_mailed(
    new_endpoint, receiver, mailoutbox
):
    grant = GrantFactory()
    endpoint, _ = new_endpoint(grant.application)
    MembershipFactory(application=grant.application)
    receiver.answers[:] = [500]
    happen(grant, Event.GRANT_RECOVERED)
    for _ in range(9):
        due_now()
        deliver()
    assert not WebhookEndpoint.objects.get().is_disabled

    WebhookEndpoint.objects.update(failing_since=database_now() - settle.DISABLE_AFTER)
    due_now()
    deliver()
    mail_about_disabled()

    endpoint.refresh_from_db()
    assert endpoint.disabled_reason == "failing"
    assert "not taken a single message" in mailoutbox[0].body


def test_one_success_ends_the_count_of_failures(new_endpoint, receiver):
    grant = GrantFactory()
    endpoint, _ = new_endpoint(grant.application)
    receiver.answers[:] = [500, 500, 200]
    happen(grant, Event.GRANT_RECOVERED)
    for _ in range(3):
        due_now()
        deliver()

    endpoint.refresh_from_db()
    assert (endpoint.misses_in_a_row, endpoint.failing_since) == (0, None)


def test_a_mail_that_no_server_takes_is_tried_again(new_endpoint, receiver, mailoutbox, monkeypatch):
    grant = GrantFactory()
    endpoint, _ = new_endpoint(grant.application)
    MembershipFactory(application=grant.application)
    endpoints.disable(endpoint, reason=DisabledReason.GONE, actor=SYSTEM)
    with monkeypatch.context() as patch:
        patch.setattr("tokens.webhooks.mail.send_mail", refuse_mail)
        mail_about_disabled()
    # Taken by the first for a while, so that no second worker mails the same.
    mail_about_disabled()
    assert mailoutbox == []

    WebhookEndpoint.objects.update(paused_until=database_now())
    mail_about_disabled()
    mail_about_disabled()

    assert len(mailoutbox) == 1


def refuse_mail(*args, **kwargs):
    raise ConnectionRefusedError


def test_e2_e3_what_is_not_on_the_internet_is_not_called(new_endpoint, receiver, settings):
    grant = GrantFactory()
    new_endpoint(grant.application)
    settings.EGRESS_PRIVATE_HOSTS = []
    happen(grant, Event.GRANT_RECOVERED)

    deliver()

    assert receiver.received == []
    assert WebhookAttempt.objects.get().outcome == "blocked"


def test_f5_plain_http_is_not_called_where_it_is_not_allowed(new_endpoint, receiver, settings):
    grant = GrantFactory()
    new_endpoint(grant.application)
    settings.EGRESS_PLAIN_HTTP = False
    happen(grant, Event.GRANT_RECOVERED)

    deliver()

    assert receiver.received == []
    assert WebhookAttempt.objects.get().outcome == "blocked"


@pytest.mark.parametrize(
    ("outcome", "is_blamed"),
    [("no name server", False), ("a fault of our own", False), ("dns", True), ("tls", True)],
)
def test_an_endpoint_is_not_blamed_for_what_is_our_own_fault(new_endpoint, receiver, outcome, is_blamed):
    grant = GrantFactory()
    new_endpoint(grant.application)
    WebhookEndpoint.objects.update(
        misses_in_a_row=20, failing_since=database_now() - settle.DISABLE_AFTER - timedelta(hours=1)
    )
    happen(grant, Event.GRANT_RECOVERED)
    (claim,) = claim_due(limit=1)

    settle.settle(claim, settle.NoAnswer(is_sent=False, reason=outcome))

    assert WebhookEndpoint.objects.get().is_disabled == is_blamed
    assert message().failures == 1


def test_a_message_that_we_cannot_send_holds_up_no_other(new_endpoint, receiver, monkeypatch):
    grants = GrantFactory.create_batch(2)
    for grant in grants:
        new_endpoint(grant.application)
        happen(grant, Event.GRANT_RECOVERED)
    real = signing.signed_headers
    calls = iter([ValueError])

    def fail_once(*args, **kwargs):
        for error in calls:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr("tokens.webhooks.deliver.signed_headers", fail_once)

    deliver()

    assert len(receiver.received) == 1
    assert set(WebhookAttempt.objects.values_list("outcome", flat=True)) == {"a fault of our own", "taken"}
    assert not WebhookEndpoint.objects.filter(misses_in_a_row__gt=0).exists()


def test_one_connection_s_messages_arrive_in_order_whatever_fails(new_endpoint, receiver):
    grant = GrantFactory()
    other = GrantFactory(provider_config=grant.provider_config)
    new_endpoint(grant.application)
    happen(grant, Event.GRANT_NEEDS_RECONNECT, Event.GRANT_RECONNECTED, Event.GRANT_REVOKED)
    happen(other, Event.GRANT_RECOVERED)
    seen = []

    def fail_the_first(request):
        seen.append((request.data["grant_id"], request.type))

    receiver.before = fail_the_first
    receiver.answers[:] = [500, 500, 200]
    deliver()
    # The first of each failed; nothing of either has overtaken it.
    assert set(seen) == {
        (str(grant.pk), "grant.needs_reconnect"),
        (str(other.pk), "grant.recovered"),
    }

    due_now()
    deliver()

    assert [kind for pk, kind in seen if pk == str(grant.pk)] == [
        "grant.needs_reconnect",
        "grant.needs_reconnect",
        "grant.reconnected",
        "grant.revoked",
    ]
    assert not WebhookMessage.objects.exclude(status="delivered").exists()


def test_a_message_that_is_given_up_lets_the_next_one_go_ahead(new_endpoint, receiver):
    grant = GrantFactory()
    new_endpoint(grant.application)
    happen(grant, Event.GRANT_NEEDS_RECONNECT, Event.GRANT_REVOKED)
    WebhookMessage.objects.filter(type="grant.needs_reconnect").update(failures=len(settle.PAUSES))
    receiver.answers[:] = [500, 200]

    deliver()

    statuses = WebhookMessage.objects.order_by("id").values_list("status", flat=True)
    assert list(statuses) == ["failed", "delivered"]


def test_a_dead_endpoint_holds_nobody_else_up(new_endpoint, receiver, monkeypatch):
    """One accepts connections and says nothing; the other, of another application, hears at once."""
    monkeypatch.setattr("tokens.webhooks.deliver.TIMEOUT", timedelta(seconds=2))
    dead, alive = GrantFactory(), GrantFactory()
    arrived = []
    receiver.before = lambda request: arrived.append(time.monotonic())
    with Peer(lambda peer, connection: peer.read(connection) and peer.stopping.wait(20)) as silent:
        new_endpoint(dead.application, url=silent.url("/hook"))
        new_endpoint(alive.application)
        for grant in GrantFactory.create_batch(30, provider_config=dead.provider_config):
            happen(grant, Event.GRANT_RECOVERED)
        happen(alive, Event.GRANT_RECOVERED)
        started = time.monotonic()
        deliver(in_flight=15, budget=timedelta(seconds=1))
        took = time.monotonic() - started

    assert arrived[0] - started < 1
    assert took >= 2
    # Never more than its share at once, and after some failures one at a time.
    assert len(silent.received) == claim.MOST_AT_ONE_ENDPOINT
    assert set(WebhookAttempt.objects.exclude(outcome="taken").values_list("outcome", flat=True)) == {
        "time-out"
    }
    WebhookMessage.objects.filter(status="pending").update(next_attempt_at=database_now())
    assert claim_due(limit=100) == []
    WebhookEndpoint.objects.update(paused_until=None)
    assert len(claim_due(limit=100)) == 1


def test_two_workers_never_claim_the_same_message(new_endpoint):
    grant = GrantFactory()
    new_endpoint(grant.application)
    happen(grant, Event.GRANT_RECOVERED)

    assert len(claim_due(limit=10)) == 1
    assert claim_due(limit=10) == []


def test_a_claim_that_ran_out_is_anybody_s_and_a_late_answer_changes_nothing(new_endpoint, receiver):
    grant = GrantFactory()
    new_endpoint(grant.application)
    happen(grant, Event.GRANT_RECOVERED)
    (stopped,) = claim_due(limit=10)

    due_now()
    deliver()
    settle.settle(stopped, settle.Answer(500, {}, b"late"))

    assert message().status == "delivered"
    assert [attempt.outcome for attempt in WebhookAttempt.objects.order_by("number")] == ["status", "taken"]


def test_a_worker_that_slept_does_not_send_with_an_old_claim(new_endpoint, receiver, monkeypatch):
    grant = GrantFactory()
    new_endpoint(grant.application)
    happen(grant, Event.GRANT_RECOVERED)
    monkeypatch.setattr("tokens.webhooks.claim.LEASE_SLACK", timedelta(seconds=-1))

    deliver()

    assert receiver.received == []
    assert WebhookAttempt.objects.get().outcome == "too late"


def test_a_copied_database_tells_nobody_anything(new_endpoint, receiver, monkeypatch, mailoutbox):
    grant = GrantFactory()
    endpoint, _ = new_endpoint(grant.application)
    MembershipFactory(application=grant.application)
    happen(grant, Event.GRANT_RECOVERED)
    for module in ("claim", "mail"):
        monkeypatch.setattr(f"tokens.webhooks.{module}.is_foreign", lambda: True)

    assert deliver() == 0
    endpoints.disable(endpoint, reason=DisabledReason.GONE, actor=SYSTEM)
    mail_about_disabled()

    assert receiver.received == []
    assert mailoutbox == []


def test_an_answer_however_long_is_cut_and_counts_by_its_status(new_endpoint, receiver):
    grant = GrantFactory()
    _, secret = new_endpoint(grant.application)
    receiver.answers[:] = [(200, f"\x00{secret} secret={CANARY} " + "ü" * 2_000_000)]
    happen(grant, Event.GRANT_RECOVERED)

    deliver()

    excerpt = WebhookAttempt.objects.get().excerpt
    assert message().status == "delivered"
    assert len(excerpt) <= settle.EXCERPT_BYTES
    assert secret not in excerpt
    assert CANARY not in excerpt
    assert "\x00" not in excerpt


def test_a_secret_that_cannot_be_decrypted_is_said_and_rotating_mends_it(new_endpoint, receiver):
    grant = GrantFactory()
    endpoint, _ = new_endpoint(grant.application)
    WebhookEndpoint.objects.update(secret=b"\x01\x04gone" + b"x" * 40)
    happen(grant, Event.GRANT_RECOVERED)

    deliver()
    assert WebhookAttempt.objects.get().outcome == "secret unreadable"
    new = endpoints.rotate(endpoint, overlap=timedelta(hours=24), actor=SYSTEM)
    due_now()
    deliver()

    receiver.received[0].verify(new)


def test_g6_no_secret_and_no_end_of_an_address_is_logged(new_endpoint, receiver, caplog):
    grant = GrantFactory()
    _, secret = new_endpoint(grant.application)
    receiver.answers[:] = [(500, f"secret {secret}"), 200]
    happen(grant, Event.GRANT_RECOVERED)

    with caplog.at_level(logging.DEBUG):
        deliver()
        due_now()
        deliver()

    logged = caplog.text
    assert secret.removeprefix("whsec_") not in logged
    assert CANARY not in logged
    assert receiver.received[0].headers["webhook-signature"] not in logged


def test_a_message_is_redelivered_by_hand_with_its_id_and_tried_once(new_endpoint, receiver):
    grant = GrantFactory()
    new_endpoint(grant.application)
    happen(grant, Event.GRANT_RECOVERED)
    deliver()
    receiver.answers[:] = [500]

    endpoints.redeliver(message(), actor=SYSTEM)
    endpoints.redeliver(message(), actor=SYSTEM)
    deliver()

    assert message().status == "failed"
    assert deliver() == 0
    first, second = receiver.received
    assert (first.id, first.body) == (second.id, second.body)
    assert AuditEvent.objects.filter(event=Event.WEBHOOK_REDELIVERED).count() == 1


def test_try_now_goes_before_what_waits_and_keeps_the_plan(new_endpoint, receiver):
    grant = GrantFactory()
    new_endpoint(grant.application)
    receiver.answers[:] = [500]
    happen(grant, Event.GRANT_RECOVERED)
    deliver()
    WebhookEndpoint.objects.update(misses_in_a_row=7, paused_until=database_now() + timedelta(hours=1))

    endpoints.redeliver(message(), actor=SYSTEM)
    deliver()

    assert len(receiver.received) == 2
    assert message().status == "pending"
    assert timedelta(minutes=4) < wait_of(message()) < timedelta(minutes=6)


def test_all_that_failed_is_sent_again_in_order(new_endpoint, receiver):
    grant = GrantFactory()
    endpoint, _ = new_endpoint(grant.application)
    happen(grant, Event.GRANT_NEEDS_RECONNECT, Event.GRANT_REVOKED)
    endpoints.send_test(endpoint, actor=SYSTEM)
    WebhookMessage.objects.update(status="failed", next_attempt_at=None, finished_at=database_now())

    assert endpoints.redeliver_failed(endpoint, actor=SYSTEM) == 2
    assert endpoints.redeliver_failed(endpoint, actor=SYSTEM) == 0
    deliver()

    assert receiver.types == ["grant.needs_reconnect", "grant.revoked"]


FILL = """
INSERT INTO portal_webhookmessage (uid, endpoint_id, type, subject_id, body, created_at, status, next_attempt_at, finished_at)
SELECT gen_random_uuid(), %(endpoint)s, 'grant.revoked', gen_random_uuid(), '{}', now(),
    CASE WHEN n %% 2 = 0 THEN 'pending' ELSE 'delivered' END, CASE WHEN n %% 2 = 0 THEN now() - n * interval '1 s' END,
    CASE WHEN n %% 2 = 1 THEN now() END
FROM generate_series(1, 6000) n
"""


def test_the_claim_looks_times_up_in_the_index_however_many_wait(new_endpoint):
    endpoint, _ = new_endpoint(GrantFactory().application)
    values = {"limit": 10, "lease": claim.LEASE, "most": 10, "failing": 5}
    with connection.cursor() as cursor:
        cursor.execute(FILL, {"endpoint": endpoint.pk})
        cursor.execute("ANALYZE portal_webhookmessage")
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN " + claim._CLAIM, values)
        plan = "\n".join(line for (line,) in cursor.fetchall())

    # Counting what is under way, telling whether something is due, and finding it.
    looked_up = [line for line in plan.splitlines() if "Index Cond" in line and "next_attempt_at" in line]
    assert len(looked_up) == 3, plan
    assert "webhook_order" in plan


def test_a_deleted_endpoint_takes_its_messages_along_and_a_call_under_way_hurts_nobody(
    new_endpoint, receiver
):
    grant = GrantFactory()
    endpoint, _ = new_endpoint(grant.application)
    happen(grant, Event.GRANT_RECOVERED)
    (claimed,) = claim_due(limit=1)

    endpoints.delete(endpoint, actor=SYSTEM)
    settle.settle(claimed, settle.Answer(200))

    assert not WebhookMessage.objects.exists()
    assert not WebhookAttempt.objects.exists()
