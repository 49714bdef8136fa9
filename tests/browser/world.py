"""The applications, people and connections that test_every_page looks at: every state once, with long names."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.urls import reverse
from django.utils import timezone

from portal import applications
from portal.audit import SYSTEM, record
from portal.models import (
    Application,
    Event,
    Role,
    User,
    WebhookAttempt,
    WebhookEndpoint,
    WebhookMessage,
    WebhookType,
)
from portal.models.applications import digest
from portal.models.webhooks import DisabledReason
from portal.outbox import body_of
from providers.catalog_loader import catalog
from providers.configure import disable
from providers.spec import Outcome
from tests.factories import (
    ApplicationFactory,
    GrantFactory,
    MembershipFactory,
    ProviderConfigFactory,
    UserFactory,
    database_now,
)
from tokens import spans
from tokens.connect import open_session
from tokens.failures import FAILURES
from tokens.models import (
    Confirmation,
    ConnectSession,
    Grant,
    ManageLink,
    RefreshAttempt,
    RefreshCount,
    Trigger,
)
from tokens.models.connect import SessionStatus
from tokens.webhooks import endpoints

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from providers.models import ProviderConfig

LONG = "The Rather Long-Winded Project Planning Suite of Acme International Holdings"
LONG_USER = "0b5c3f0e-6c9f-4a39-9f0c-a-very-long-id-of-an-end-user-without-any-place-to-break"
# What the cookie of a browser that connects holds (tokens/views/browser.py).
BROWSER = "every-page".ljust(43, "0")


@dataclass(frozen=True)
class World:
    """Who is there; applications and grants are found by slug and by end user."""

    owner: User
    support: User
    auditor: User
    link: str
    # A browser profile each.
    contexts: dict[str, BrowserContext] = field(default_factory=dict)
    pages: dict[str, Page] = field(default_factory=dict)

    def grant(self, end_user: str) -> Grant:
        """Return the connection of an end user."""
        return Grant.objects.get(end_user=end_user)

    def manage_page(self, end_user: str) -> str:
        """Return the address of an end user's own page, open in the browsers' cookie."""
        return reverse("manage-page", args=[ManageLink.objects.get(end_user=end_user).pk])

    def failed(self, code: str) -> ConnectSession:
        """Return the end user's connect session that failed so."""
        return ConnectSession.objects.get(
            failure=code, confirmation=Confirmation.MEMBER, application__slug="full"
        )

    def test_failed(self, code: str) -> ConnectSession:
        """Return the owner's test connection that failed so."""
        return ConnectSession.objects.get(failure=code, confirmation=Confirmation.LOGIN)


def make() -> World:
    """Fill the database."""
    people: dict[str, Any] = {
        "owner": UserFactory(email="alex@acme.example", name="Alex Doe"),
        "support": UserFactory(email="support@acme.example", name="Sascha of the Second-Level Support Team"),
        "auditor": UserFactory(email="auditor@acme.example"),
    }
    made = {slug: _application(people, slug, name) for slug, name in APPLICATIONS.items()}
    full = _full(made["full"], people["owner"])
    _states(made["states"])
    _webhooks(made["states"], people["owner"])
    _broken(made["broken"])
    disabled = ProviderConfigFactory(application=made["off"], secret_set_by=people["owner"])
    GrantFactory(provider_config=disabled, end_user="paused")
    disable(disabled, actor=SYSTEM)
    applications.archive(made["archived"], actor=SYSTEM)
    for code in FAILURES:
        session(full, failure=code, return_url="https://app.example/x")
    session(full, failure="wrong_client_secret", confirmation=Confirmation.LOGIN, created_by=people["owner"])
    _, link = open_session(
        full,
        end_user="user-1",
        confirmation=Confirmation.MEMBER,
        actor=SYSTEM,
        return_url="https://app.example/x",
    )
    for application, end_user in (("full", LONG_USER), ("empty", "nobody-yet"), ("states", "ended")):
        ManageLink.objects.create(
            application=made[application],
            end_user=end_user,
            return_url="https://app.example/settings",
            link_digest=digest(end_user),
            browser_digest=digest(BROWSER),
            expires_at=database_now() + dt.timedelta(hours=1),
        )
    ManageLink.objects.create(
        application=made["full"],
        end_user="not-opened-yet",
        link_digest=digest("not-opened-yet"),
        expires_at=database_now() + dt.timedelta(hours=1),
    )
    return World(**people, link=link)


APPLICATIONS = {
    "full": LONG,
    "empty": "Acme Empty",
    "states": "Acme States",
    "broken": "Acme Broken",
    "off": "Acme Switched Off",
    "archived": "Acme Archived",
}


def _application(people: dict[str, User], slug: str, name: str) -> Application:
    application: Application = ApplicationFactory.create(
        name=name, slug=slug, return_origins=["https://app.example", "https://staging.app.example:8443"]
    )
    for role, user in zip((Role.OWNER, Role.SUPPORT, Role.AUDITOR), people.values(), strict=True):
        MembershipFactory(application=application, user=user, role=role)
    return application


def _full(application: Application, owner: User) -> ProviderConfig:
    """Every scope there is, and more connections than fit on a page, one of them with everything long."""
    config: ProviderConfig = ProviderConfigFactory.create(
        application=application,
        scopes=list(catalog()["atlassian"].scopes),
        secret_set_by=owner,
        created_by=owner,
    )
    grant: Grant = GrantFactory.create(
        provider_config=config,
        end_user=LONG_USER,
        label="Maximiliana von und zu Hohenstein-Wittelsbach, Sales (EMEA), second account",
        account_name="Maximiliana von und zu Hohenstein-Wittelsbach",
        account_email="maximiliana.von-und-zu-hohenstein-wittelsbach@engineering.acme-holdings.example",
        granted_scopes=config.scopes[:-3],
        site_names=["acme-international-holdings-engineering", "acme-labs", "northwind"],
    )
    RefreshAttempt.objects.bulk_create(
        RefreshAttempt(
            grant=grant,
            provider_config=config,
            gen=epoch,
            epoch=epoch,
            trigger=Trigger.BEAT,
            outcome="ambiguous" if epoch % 4 == 0 else "ok",
            cause="the answer was cut off" if epoch % 4 == 0 else "",
        )
        for epoch in range(1, 30)
    )
    record(Event.GRANT_CONNECTED, actor=SYSTEM, application=application, subject=grant)
    GrantFactory.create_batch(
        59, provider_config=config, site_names=["acme-international-holdings", "acme-labs", "northwind"]
    )
    RefreshCount.objects.bulk_create(
        RefreshCount(
            provider_config=config,
            application=application,
            starts_at=start,
            outcome=outcome,
            count=count,
            latencies=[0, 0, 5, 40 + number, 30, 9, 4, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, number % 9 == 8],
        )
        for number, start in enumerate(spans.DAY.starts_of(database_now()))
        for outcome, count in (("ok", 12_000 + 900 * (number % 7)), ("ambiguous", 4_000 * (number % 9 == 8)))
        if count
    )
    for number in range(60):
        record(
            Event.TOKEN_HANDED_OUT,
            actor=SYSTEM,
            application=application,
            subject=grant,
            purpose=f"nightly report {number} of the department of long and detailed explanations",
        )
    return config


def _states(application: Application) -> None:
    """One connection in each state that needs words."""
    config = ProviderConfigFactory(application=application)
    now = timezone.now()
    kinds: dict[str, dict[str, Any]] = {
        "pending": {"pending": True},
        "ended": {"needs_reconnect": True, "fail_outcome": Outcome.GRANT_DEAD},
        "unreadable": {"fail_outcome": "unreadable", "cause": "its tokens cannot be decrypted"},
        "retrying": {
            "fail_outcome": Outcome.AMBIGUOUS,
            "cause": "Atlassian gave no usable answer",
            "access_expires_at": now - dt.timedelta(minutes=3),
        },
        "revoked": {"revoked": True, "upstream_revocation": "Atlassian has no way for us to end it there"},
    }
    for end_user, fields in kinds.items():
        grant = GrantFactory(provider_config=config, end_user=end_user, **fields)
        session(config, grant=grant, end_user=end_user, status=SessionStatus.DONE)
        record(Event.GRANT_CONNECTED, actor=SYSTEM, application=application, subject=grant)


def _webhooks(application: Application, owner: User) -> None:
    """An endpoint with a long log, one that fails, and two that are disabled."""
    now = database_now()
    address = "https://hooks.engineering.acme-international-holdings.example/v2/incoming/webhooks?key=0123456789abcdef0123456789abcdef"
    busy, failing, gone, off = (
        endpoints.create(
            application, name=name, url=address, types=WebhookType.values[:6], created_by=owner, actor=SYSTEM
        )[0]
        for name in ("The nightly reports of the second-level support team", "failing", "gone", "off")
    )
    body = body_of(
        "grant.needs_reconnect", {"end_user": LONG.replace(" ", "-"), "cause": "access was removed"}, at=now
    )
    pause = now + dt.timedelta(hours=5)
    kinds: list[dict[str, Any]] = [
        {"next_attempt_at": now, "failures": 0},
        {"next_attempt_at": pause, "failures": 4, "tries": 4},
        {"next_attempt_at": pause, "claim_until": pause, "tries": 1},
        {"status": "failed", "finished_at": now, "tries": 10},
        *[{"status": "delivered", "finished_at": now, "tries": 1}] * 30,
    ]
    WebhookMessage.objects.bulk_create(
        WebhookMessage(endpoint=endpoint, type="grant.needs_reconnect", body=body, **fields)
        for endpoint in (busy, failing, gone)
        for fields in kinds[::-1]
    )
    message = WebhookMessage.objects.filter(endpoint=busy, tries=4).get()
    WebhookAttempt.objects.bulk_create(
        WebhookAttempt(
            message=message,
            number=number,
            started_at=now - dt.timedelta(hours=10 - number),
            answered_at=now - dt.timedelta(hours=10 - number, seconds=-1) if outcome else None,
            url=address,
            outcome=outcome,
            http_status=status,
            excerpt=excerpt,
        )
        for number, (outcome, status, excerpt) in enumerate(
            [
                ("", None, ""),
                ("time-out", None, ""),
                ("status", 500, "<html>\n" + "x" * 900),
                ("busy", 429, ""),
            ],
            1,
        )
    )
    WebhookEndpoint.objects.filter(pk=failing.pk).update(
        misses_in_a_row=9, failing_since=now - dt.timedelta(days=2)
    )
    for endpoint, reason in ((gone, DisabledReason.GONE), (off, DisabledReason.MEMBER)):
        endpoints.disable(endpoint, reason=reason, actor=SYSTEM)


def _broken(application: Application) -> None:
    """A provider that refuses us, and one whose catalog file is gone."""
    config = ProviderConfigFactory(application=application)
    GrantFactory(
        provider_config=config, fail_outcome=Outcome.CLIENT_BAD, cause="Atlassian refuses the client"
    )
    config.note_problem("client_refused")
    gone = ProviderConfigFactory.create(
        application=application, provider_id="gitlab-of-our-own", scopes=["read_user", "api"]
    )
    GrantFactory(provider_config=gone, end_user="gone")
    session(config, failure="wrong_client_secret")


def session(config: ProviderConfig, **fields: Any) -> ConnectSession:
    """Make a connect session that was started in the browser with the cookie."""
    values: dict[str, Any] = {
        "confirmation": Confirmation.MEMBER,
        "end_user": "user-1",
        "browser_digest": digest(BROWSER),
        "link_digest": digest(f"{config.pk}{ConnectSession.objects.count()}"),
        "expires_at": database_now() + dt.timedelta(hours=1),
        **fields,
    }
    return ConnectSession.objects.create(application=config.application, provider_config=config, **values)
