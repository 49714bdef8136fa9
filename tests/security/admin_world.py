"""Django admin with something in every table, each secret marked, and ways to press its buttons."""

from __future__ import annotations

import base64
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from allauth.account.authentication import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import models
from django.test import Client
from django.urls import reverse

from portal.audit import SYSTEM, record
from portal.encryption import seal
from portal.keycheck import check_keys
from portal.models import (
    ApiKey,
    Application,
    AuditSeal,
    Event,
    Invitation,
    Role,
    User,
    WebhookAttempt,
    WebhookMessage,
)
from portal.models.applications import digest
from portal.people import MFAAdapter
from providers.oauth import Answer
from tests.factories import (
    CANARY,
    GrantFactory,
    MembershipFactory,
    ProviderConfigFactory,
    UserFactory,
    database_now,
)
from tokens.models import (
    AuthorizationRequest,
    Confirmation,
    ConnectSession,
    Grant,
    RefreshAttempt,
    RefreshCount,
    Trigger,
)
from tokens.webhooks import endpoints
from tokens.webhooks.settle import excerpt_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from providers.models import ProviderConfig


@pytest.fixture
def world(db: None) -> dict[str, Any]:
    """Fill every table that the admin shows, each secret with the canary in it."""
    superuser = User.objects.create_superuser("staff@acme.example", f"password {CANARY}")
    config = ProviderConfigFactory.create(
        application__name="Acme Tasks",
        application__slug="acme-tasks",
        client_secret=f"{CANARY}-client-secret",
        secret_set_by=superuser,
    )
    membership = MembershipFactory.create(
        application=config.application, user=UserFactory.create(email="owner@acme.example")
    )
    Invitation.objects.create(
        application=config.application,
        email="new@acme.example",
        role=Role.ADMIN,
        token_digest=digest(f"{CANARY}-invitation"),
        expires_at=database_now() + timedelta(days=1),
    )
    ApiKey.objects.create(
        application=config.application,
        name="back end",
        public_id="0123456789ab",
        secret_digest=digest(f"{CANARY}-key"),
        permissions=["tokens:read"],
        created_by=superuser,
        expires_at=database_now() + timedelta(days=1),
    )
    grant = GrantFactory.create(
        provider_config=config, end_user="user-4711", used_at=database_now(), claim_epoch=1
    )
    GrantFactory.create(provider_config=config, pending=True)
    GrantFactory.create(provider_config=config, revoked=True)
    _connecting(config, grant)
    RefreshAttempt.objects.create(
        grant=grant, provider_config=config, gen=1, epoch=1, trigger=Trigger.BEAT, outcome="ok"
    )
    RefreshCount.objects.create(
        provider_config=config,
        application=config.application,
        starts_at=database_now(),
        outcome="ok",
        count=3,
    )
    record(Event.GRANT_CONNECTED, actor=SYSTEM, application=config.application, subject=grant)
    record(Event.TOKEN_HANDED_OUT, actor=SYSTEM, application=config.application, subject=grant)
    _webhooks(config, grant)
    AuditSeal.objects.create(until=database_now() - timedelta(days=2), events=5, digest=b"\x05" * 32)
    AuditSeal.objects.create(until=database_now() - timedelta(days=1), events=1234, digest=b"\x07" * 32)
    check_keys()
    _accounts(membership.user)
    LogEntry.objects.create(
        user=superuser,
        content_type=ContentType.objects.get_for_model(User),
        object_id=str(membership.user.pk),
        object_repr=str(membership.user),
        action_flag=CHANGE,
        change_message="",
    )
    Group.objects.create(name="Helpers")
    return {"superuser": superuser, "config": config, "grant": grant, "membership": membership}


def _connecting(config: ProviderConfig, grant: Grant) -> None:
    session = ConnectSession(
        application=config.application,
        provider_config=config,
        confirmation=Confirmation.CODE,
        end_user="user-4711",
        link_digest=digest(f"{CANARY}-link"),
        browser_digest=digest(f"{CANARY}-browser"),
        return_code_digest=digest(f"{CANARY}-code"),
        grant=grant,
        reconnect_grant=grant,
        created_by=User.objects.get(email="staff@acme.example"),
        expires_at=database_now() + timedelta(days=1),
    )
    seal(session, "exchanged", f"{CANARY}-exchanged")
    session.save(force_insert=True)
    request = AuthorizationRequest(
        session=session,
        state_digest=digest(f"{CANARY}-state"),
        browser_digest=digest(f"{CANARY}-browser"),
        client_id=config.client_id,
        redirect_uri=config.redirect_uri,
        token_url="https://auth.atlassian.com/oauth/token",
        expires_at=database_now() + timedelta(minutes=10),
    )
    seal(request, "code_verifier", f"{CANARY}-verifier")
    request.save(force_insert=True)


def _webhooks(config: ProviderConfig, grant: Grant) -> None:
    endpoint, secret = endpoints.create(
        config.application,
        name="back end",
        url=f"https://app.example/{CANARY}?key={CANARY}",
        types=["grant.needs_reconnect"],
        actor=SYSTEM,
    )
    endpoints.rotate(endpoint, overlap=timedelta(days=1), actor=SYSTEM)
    record(Event.GRANT_NEEDS_RECONNECT, actor=SYSTEM, application=config.application, subject=grant)
    message = WebhookMessage.objects.get()
    reply = Answer(500, {}, f'{{"secret": "{secret}", "seen": "{secret}", "token": "{CANARY}"}}'.encode())
    WebhookAttempt.objects.create(
        message=message, number=1, started_at=database_now(), url=endpoint.url, excerpt=excerpt_of(reply)
    )


def _accounts(user: User) -> None:
    secret = MFAAdapter().encrypt(f"{CANARY}-totp")
    Authenticator.objects.create(user=user, type=Authenticator.Type.TOTP, data={"secret": secret})
    Authenticator.objects.create(
        user=user, type=Authenticator.Type.RECOVERY_CODES, data={"seed": f"{CANARY}-seed"}
    )
    UserSession.objects.create(
        user=user,
        ip="203.0.113.9",
        session_key=f"{CANARY}-session",
        user_agent="Browser",
        data={"x": f"{CANARY}-data"},
    )
    Session.objects.create(
        session_key=f"{CANARY}-session",
        session_data=f"{CANARY}-data",
        expire_date=database_now() + timedelta(days=1),
    )
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    SocialAccount.objects.create(
        user=user, provider="atlassian", uid="712020:jo", extra_data={"token": f"{CANARY}-extra"}
    )


@pytest.fixture
def superuser(world: dict[str, Any]) -> Client:
    return signed_in(world["superuser"])


def signed_in(user: User, *, minutes_ago: float = 0) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    session = client.session
    session[f"{AUTHENTICATION_METHODS_SESSION_KEY}_user"] = str(user.pk)
    session[AUTHENTICATION_METHODS_SESSION_KEY] = [
        {"method": "password", "at": time.time() - minutes_ago * 60, "email": user.email}
    ]
    session.save()
    return client


def marks() -> set[str]:
    """Return every text that would show a secret: in clear, as digest, hash or ciphertext, however written."""
    found = {CANARY}
    for model in apps.get_models():
        for field in model._meta.get_fields():
            if isinstance(field, models.BinaryField):
                for value in model._default_manager.values_list(field.attname, flat=True):
                    if value is not None:
                        body = bytes(value)[-24:]
                        found |= {body.hex(), base64.b64encode(body).decode()[:30], repr(body)[2:-1]}
            elif (
                isinstance(field, models.Field)
                and field.name.endswith("_digest")
                and model is not Application
            ):
                found |= set(
                    model._default_manager.exclude(**{field.name: ""}).values_list(field.attname, flat=True)
                )
    found |= {hashed.rsplit("$", 1)[-1][:6] for hashed in User.objects.values_list("password", flat=True)}
    found |= {
        authenticator.data["secret"][:40] for authenticator in Authenticator.objects.filter(type="totp")
    }
    found |= {"<memory at 0x", "pbkdf2_"}
    return found


def registered() -> Iterator[tuple[type[models.Model], str]]:
    for model in admin.site._registry:
        yield model, f"admin:{model._meta.app_label}_{model._meta.model_name}"


def act(client: Client, name: str, action: str, rows: Any, *, confirmed: bool = True) -> Any:
    """Carry an action of a list out, confirmed or not, and return the answer."""
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    if confirmed:
        data["confirmed"] = "yes"
    return client.post(reverse(f"admin:{name}_changelist"), data)


def empty_formset(prefix: str) -> dict[str, str]:
    return {
        f"{prefix}-{name}": "0" for name in ("TOTAL_FORMS", "INITIAL_FORMS", "MIN_NUM_FORMS", "MAX_NUM_FORMS")
    }
