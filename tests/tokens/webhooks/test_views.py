"""The pages of webhooks: what each form refuses and says, who sees what, and that a secret is shown once."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.urls import reverse

from portal import applications
from portal.audit import SYSTEM, record
from portal.models import AuditEvent, Event, WebhookAttempt, WebhookEndpoint, WebhookMessage, WebhookType
from portal.models.webhooks import DisabledReason
from tests.factories import CANARY, GrantFactory, ProviderConfigFactory, database_now
from tests.tokens.webhooks.conftest import due_now
from tokens.housekeeping import tidy
from tokens.webhooks import endpoints, forms
from tokens.webhooks.deliver import deliver

pytestmark = pytest.mark.django_db

SECRET = re.compile(r"whsec_[0-9A-Za-z+/]{43}=")
FIELDS = {
    "name": "production",
    "url": f"https://app.example.com/hook?key={CANARY}",
    "types": ["grant.connected", "grant.revoked"],
}


def _url(name, *args):
    return reverse(name, args=["acme-tasks", *args])


@pytest.fixture
def endpoint(cast):
    return endpoints.create(cast.application, **FIELDS, actor=SYSTEM)[0]


def _message(cast, endpoint, kind=Event.GRANT_REVOKED):
    grant = GrantFactory(provider_config=ProviderConfigFactory(application=cast.application))
    record(kind, actor=SYSTEM, application=cast.application, subject=grant)
    return WebhookMessage.objects.latest("id")


def test_an_admin_makes_an_endpoint_whose_secret_is_shown_once(cast):
    client = cast.client("admin")

    page = client.post(_url("webhook-create"), FIELDS).content.decode()

    secret = SECRET.search(page)[0]
    assert "It is shown only now" in page
    endpoint = WebhookEndpoint.objects.get()
    assert endpoint.types == ["grant.connected", "grant.revoked"]
    assert endpoint.created_by == cast.admin
    for name in ("webhook-detail", "webhook-change", "webhook-rotate"):
        assert secret not in client.get(_url(name, endpoint.pk)).content.decode()
    event = AuditEvent.objects.get(event=Event.WEBHOOK_CREATED)
    assert event.detail["url"] == "https://app.example.com/…"
    assert CANARY not in str(event.detail)


def test_rotating_shows_a_new_secret_and_says_how_long_the_earlier_one_lasts(cast, endpoint):
    client = cast.client("owner")

    page = client.post(_url("webhook-rotate", endpoint.pk), {"hours": "24"}).content.decode()
    shown = client.get(_url("webhook-detail", endpoint.pk)).content.decode()
    at_once = client.post(_url("webhook-rotate", endpoint.pk), {"hours": "0"}).content.decode()

    assert SECRET.search(page)[0] != SECRET.search(at_once)[0]
    assert "The earlier one signs too" in page
    assert "the earlier one signs too" in shown
    assert "signs nothing any more" in at_once
    assert AuditEvent.objects.filter(event=Event.WEBHOOK_SECRET_ROTATED).count() == 2


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://app.example.com/hook", "must begin with https://"),
        ("ftp://app.example.com/hook", "must begin with https://"),
        ("app.example.com/hook", "https://"),
        ("https://user:secret@app.example.com/hook", "has a user name in it"),
        ("https://app.example.com/hook#x", "has a # in it"),
        ("https://app.example.com/a b", "has a space"),
        ("https://app.example.com\\@evil.example/", "a backslash"),
        ("https://app.example.com/ü", "a letter beyond ASCII"),
        ("https://127.0.0.1/hook", "is not on the internet"),
        ("https://10.0.0.1/hook", "is not on the internet"),
        ("https://169.254.169.254/latest/meta-data", "is not on the internet"),
        ("https://[::1]/hook", "is not on the internet"),
        ("https://[::ffff:127.0.0.1]/hook", "is not on the internet"),
        ("https://2130706433/hook", "does not have a valid host name"),
        ("https://0x7f.1/hook", "does not have a valid host name"),
        ("https://localhost/hook", "own machine"),
        ("https:///hook", "https://"),
        ("https://app.example.com:99999/hook", "is not an address"),
        ("https://app.example.com/" + "x" * 2000, "at most 2000 characters"),
        ("", "Say where the messages go"),
    ],
)
def test_e3_f5_an_address_that_must_not_be_called_is_refused_with_the_reason(cast, settings, url, says):
    settings.EGRESS_PRIVATE_HOSTS, settings.SANDBOX_URL = [], ""

    response = cast.client("owner").post(_url("webhook-create"), {**FIELDS, "url": url})

    assert response.status_code == 422
    assert says in response.content.decode()
    assert not WebhookEndpoint.objects.exists()


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://App.Example.com", "https://app.example.com/"),
        ("https://app.example.com:443/Hook?A=b", "https://app.example.com/Hook?A=b"),
        ("https://app.example.com:8443/hook", "https://app.example.com:8443/hook"),
        (" https://8.8.8.8/hook ", "https://8.8.8.8/hook"),
        ("http://gitlab.internal:8080/hook", "http://gitlab.internal:8080/hook"),
        ("https://gitlab.internal/hook", "https://gitlab.internal/hook"),
    ],
)
def test_an_address_is_kept_as_browsers_write_it(settings, url, kept):
    settings.EGRESS_PLAIN_HTTP, settings.EGRESS_PRIVATE_HOSTS = True, ["gitlab.internal"]
    form = forms.EndpointForm({**FIELDS, "url": url})

    assert form.is_valid(), form.errors
    assert form.cleaned_data["url"] == kept


def test_something_must_be_told_and_only_what_there_is(cast):
    client = cast.client("owner")

    for types in ([], ["grant.eaten"]):
        assert client.post(_url("webhook-create"), {**FIELDS, "types": types}).status_code == 422
        with pytest.raises(IntegrityError, match="webhook_types_known"), transaction.atomic():
            endpoints.create(cast.application, name="x", url="https://x/", types=types, actor=SYSTEM)


def test_an_application_has_only_so_many_endpoints(cast, monkeypatch, endpoint):
    monkeypatch.setattr(endpoints, "MOST_ENDPOINTS", 1)

    response = cast.client("owner").post(_url("webhook-create"), FIELDS)

    assert response.status_code == 422
    assert "and that is the most" in response.content.decode()


def test_a_change_is_saved_and_logged_without_the_address_s_end(cast, endpoint):
    client = cast.client("owner")
    changed = {**FIELDS, "url": f"https://other.example/{CANARY}", "types": WebhookType.values}

    client.post(_url("webhook-change", endpoint.pk), changed)
    client.post(_url("webhook-change", endpoint.pk), changed)

    endpoint.refresh_from_db()
    assert endpoint.url == f"https://other.example/{CANARY}"
    event = AuditEvent.objects.get(event=Event.WEBHOOK_CHANGED)
    assert event.detail["changes"]["url"] == ["https://app.example.com/…", "https://other.example/…"]
    assert CANARY not in str(event.detail)


def test_who_may_not_manage_reads_everything_but_the_address_s_end(cast, endpoint):
    message = _message(cast, endpoint)
    WebhookAttempt.objects.create(message=message, number=1, started_at=database_now(), url=endpoint.url)

    for who, sees in (("support", False), ("auditor", False), ("admin", True)):
        pages = [
            cast.client(who).get(url).content.decode()
            for url in (
                _url("webhook-list"),
                _url("webhook-detail", endpoint.pk),
                _url("webhook-message", message.uid),
            )
        ]
        assert (CANARY in pages[1]) is sees
        assert ("Send a test event" in pages[1]) is sees
        assert ("New endpoint" in pages[0]) is sees
        assert "grant.revoked" in pages[1]


def test_a_test_event_goes_to_its_endpoint_alone_and_not_twice_by_itself(cast, new_endpoint, receiver):
    endpoint, secret = new_endpoint(cast.application, types=["grant.revoked"])
    new_endpoint(cast.application)
    receiver.answers[:] = [(503, "starting")]
    client = cast.client("owner")

    page = client.post(_url("webhook-test", endpoint.pk), follow=True).content.decode()
    assert "It is sent as soon as a worker is free" in page
    deliver()
    due_now()
    deliver()

    (request,) = receiver.received
    assert request.verify(secret)["type"] == "webhook.test"
    page = client.get(_url("webhook-message", WebhookMessage.objects.get().uid)).content.decode()
    assert "Asked us to come again later (503)" in page
    assert "starting" in page
    assert "It was tried once" in page


def test_a_disabled_endpoint_is_shown_and_nothing_is_sent_to_it(cast, endpoint):
    client = cast.client("owner")
    message = _message(cast, endpoint)
    client.post(_url("webhook-disable", endpoint.pk))
    client.post(_url("webhook-disable", endpoint.pk))

    page = client.get(_url("webhook-detail", endpoint.pk)).content.decode()
    tested = client.post(_url("webhook-test", endpoint.pk), follow=True).content.decode()
    again = client.post(_url("webhook-redeliver", message.uid), follow=True).content.decode()

    assert "A member disabled it" in page
    assert "1 message waits and will be sent" in page
    assert "is disabled, so nothing is sent" in tested
    assert "is disabled, so nothing is sent" in again
    assert deliver() == 0
    assert AuditEvent.objects.filter(event=Event.WEBHOOK_DISABLED).count() == 1

    client.post(_url("webhook-enable", endpoint.pk))
    client.post(_url("webhook-enable", endpoint.pk))
    endpoint.refresh_from_db()
    assert not endpoint.is_disabled
    assert AuditEvent.objects.filter(event=Event.WEBHOOK_ENABLED).count() == 1


def test_a_disabled_endpoint_says_why_everywhere(cast, endpoint):
    for reason, words in ((DisabledReason.GONE, "410 Gone"), (DisabledReason.FAILING, "for days")):
        WebhookEndpoint.objects.update(disabled_at=database_now(), disabled_reason=reason)

        assert words in cast.client("support").get(_url("webhook-detail", endpoint.pk)).content.decode()
        assert "Disabled" in cast.client("support").get(_url("webhook-list")).content.decode()


def test_the_log_is_paged_and_filtered(cast, endpoint):
    client = cast.client("owner")
    now = database_now()
    WebhookMessage.objects.bulk_create(
        WebhookMessage(
            endpoint=endpoint,
            type=f"grant.number{number}",
            body="{}",
            status="failed" if number % 10 == 0 else "delivered",
            finished_at=now,
        )
        for number in range(60)
    )

    def page(query=""):
        text = client.get(_url("webhook-detail", endpoint.pk) + query).content.decode()
        return [int(found) for found in re.findall(r"grant\.number(\d+)", text)], text

    first, text = page()
    older = re.search(r'rel="next" href="(\?before=\d+)"', text)[1]
    second, text = page(older)
    newer = re.search(r'rel="prev" href="(\?after=\d+)"', text)[1]
    failed, _ = page("?status=failed")

    assert first == list(range(59, 34, -1))
    assert second == list(range(34, 9, -1))
    assert page(newer)[0] == first
    assert failed == [50, 40, 30, 20, 10, 0]
    assert page("?status=pending")[1].count("No message stands so.") == 1
    assert page("?before=x&after=99999999999999999999&status=nonsense")[0] == first


def test_a_message_s_page_polls_until_it_has_ended(cast, endpoint):
    client = cast.client("owner")
    message = _message(cast, endpoint)
    url = _url("webhook-message", message.uid)

    assert "every 2s" in client.get(url).content.decode()
    assert client.get(url, headers={"HX-Request": "true"}).status_code == 200
    WebhookMessage.objects.update(status="delivered", next_attempt_at=None, finished_at=database_now())
    assert "every 2s" not in client.get(url).content.decode()
    assert client.get(url, headers={"HX-Request": "true"}).status_code == 286


def test_a_try_whose_worker_died_says_so(cast, endpoint):
    message = _message(cast, endpoint)
    WebhookAttempt.objects.create(
        message=message, number=1, started_at=database_now() - timedelta(minutes=5), url=endpoint.url
    )

    page = cast.client("owner").get(_url("webhook-message", message.uid)).content.decode()

    assert "The worker stopped before it could note an answer" in page


def test_g11_old_messages_and_secrets_that_no_longer_sign_are_erased(cast, endpoint, settings):
    message = _message(cast, endpoint)
    WebhookAttempt.objects.create(message=message, number=1, started_at=database_now(), url=endpoint.url)
    endpoints.rotate(endpoint, overlap=timedelta(hours=24), actor=SYSTEM)
    tidy()
    endpoint.refresh_from_db()
    assert WebhookMessage.objects.exists()
    assert endpoint.earlier_secret is not None

    WebhookMessage.objects.update(created_at=database_now() - timedelta(days=31))
    WebhookEndpoint.objects.update(earlier_secret_until=database_now() - timedelta(seconds=1))
    tidy()

    endpoint.refresh_from_db()
    assert not WebhookMessage.objects.exists()
    assert not WebhookAttempt.objects.exists()
    assert (endpoint.earlier_secret, endpoint.earlier_secret_until) == (None, None)


def test_a_deleted_application_takes_its_endpoints_along(cast, endpoint):
    _message(cast, endpoint)

    applications.delete(cast.application, actor=SYSTEM)

    assert not WebhookEndpoint.objects.exists()
    assert not WebhookMessage.objects.exists()
