"""Django admin shows no secret and changes no history (G1 to G4, G9).

Every secret column is filled with something that can be recognised, then every address is fetched as superuser.
"""

from __future__ import annotations

import base64
import re
from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import DatabaseError, connection, models, transaction
from django.test import Client
from django.urls import reverse

from portal.audit import SYSTEM, record
from portal.encryption import seal
from portal.keycheck import check_keys
from portal.models import Application, AuditEvent, Event, Invitation, KeyCheck, Membership, Role, User
from portal.models.applications import digest
from portal.people import MFAAdapter
from providers.models import ProviderConfig
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
    GrantStatus,
    GrantTokens,
    RefreshAttempt,
    RefreshCount,
    Site,
    Trigger,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db

HISTORY = [
    AuditEvent,
    Grant,
    Site,
    ConnectSession,
    AuthorizationRequest,
    RefreshAttempt,
    RefreshCount,
    KeyCheck,
    LogEntry,
]
MOST_PAGES = 1500


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


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
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


def first_addresses() -> list[str]:
    """Return the addresses that no link need lead to: forms, history, deletion, search, passwords."""
    addresses = ["/admin/", "/admin/password_change/", "/admin/jsi18n/"]
    for model, name in registered():
        addresses += [
            reverse(f"{name}_changelist"),
            reverse(f"{name}_changelist") + "?q=acme",
            reverse(f"{name}_add"),
        ]
        for pk in model._default_manager.values_list("pk", flat=True):
            addresses += [reverse(f"{name}_{page}", args=[pk]) for page in ("change", "history", "delete")]
        source = {"app_label": model._meta.app_label, "model_name": model._meta.model_name}
        for field in model._meta.fields:
            if field.is_relation:
                addresses.append(
                    f"/admin/autocomplete/?{'&'.join(f'{k}={v}' for k, v in source.items())}&field_name={field.name}&term="
                )
    addresses += [f"/admin/portal/user/{pk}/password/" for pk in User.objects.values_list("pk", flat=True)]
    return addresses


def links_in(page: str) -> set[str]:
    return {link.replace("&amp;", "&") for link in re.findall(r'href="([^"#]+)"', page)}


def test_g1_no_admin_page_shows_a_secret_a_digest_or_a_ciphertext(superuser):
    forbidden = marks()
    waiting, seen, leaks = deque(first_addresses()), set(), []

    while waiting:
        address = waiting.popleft()
        if address in seen or not address.startswith("/admin/") or "logout" in address:
            continue
        seen.add(address)
        assert len(seen) < MOST_PAGES
        response = superuser.get(address)
        assert response.status_code in (200, 302, 403, 404), address
        page = response.content.decode()
        leaks += [(address, mark) for mark in forbidden if mark in page or mark in address]
        if "?" not in address and response["Content-Type"].startswith("text/html"):
            waiting.extend(urljoin(address, link) for link in links_in(page))

    assert leaks == []
    assert len(seen) > 150


def test_g1_no_export_shows_a_secret(superuser):
    forbidden = marks()

    for name, model in (("tokens_grant", Grant), ("portal_auditevent", AuditEvent)):
        text = act(superuser, name, "export", model.objects.all()).getvalue().decode()
        assert not [mark for mark in forbidden if mark in text]
        assert "user-4711" in text


def test_g1_tables_of_secrets_are_not_in_the_admin(world):
    for model in (GrantTokens, Session, SocialApp, SocialToken):
        assert not admin.site.is_registered(model)


def test_g1_the_client_secret_is_only_said_to_be_set(superuser, world):
    page = superuser.get(
        reverse("admin:providers_providerconfig_change", args=[world["config"].pk])
    ).content.decode()

    assert "set on" in page
    assert "by staff@acme.example" in page


def test_g1_of_a_password_is_only_said_that_it_is_set(superuser, world):
    page = superuser.get(reverse("admin:portal_user_change", args=[world["superuser"].pk])).content.decode()

    assert "Set another" in page


def test_g2_no_secret_is_a_name_or_a_key_of_anything(world):
    forbidden = marks()

    names = [
        f"{thing} {thing.pk}"
        for model in apps.get_models()
        if model is not Session
        for thing in model._default_manager.all()
        if admin.site.is_registered(model) or model._meta.app_label in ("portal", "providers", "tokens")
    ]

    assert len(names) > 20
    assert not [name for name in names for mark in forbidden if mark in name]


def test_g2_the_admins_own_log_holds_no_secret(superuser, world):
    user = world["membership"].user
    form = {
        "email": user.email,
        "name": "Renamed",
        "is_active": "on",
        "_save": "Save",
        **empty_formset("memberships"),
    }
    superuser.post(reverse("admin:portal_user_change", args=[user.pk]), form)
    superuser.post(
        f"/admin/portal/user/{user.pk}/password/",
        {"usable_password": "true", "password1": f"new {CANARY} word", "password2": f"new {CANARY} word"},
    )
    superuser.post(
        reverse("admin:providers_providerconfig_change", args=[world["config"].pk]), {"_save": "Save"}
    )

    entries = LogEntry.objects.exclude(user=None)
    assert entries.count() >= 4
    assert not [
        entry for entry in entries for mark in marks() if mark in f"{entry.object_repr}{entry.change_message}"
    ]


def empty_formset(prefix: str) -> dict[str, str]:
    return {
        f"{prefix}-{name}": "0" for name in ("TOTAL_FORMS", "INITIAL_FORMS", "MIN_NUM_FORMS", "MAX_NUM_FORMS")
    }


@pytest.mark.parametrize("model", HISTORY, ids=lambda model: model.__name__)
def test_g3_a_superuser_adds_changes_and_deletes_no_history(superuser, world, model):
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    thing = model._default_manager.first()
    assert thing is not None
    before = list(model._default_manager.order_by("pk").values())

    answers = [
        superuser.get(reverse(f"{name}_add")).status_code,
        superuser.post(reverse(f"{name}_add"), {}).status_code,
        superuser.post(reverse(f"{name}_change", args=[thing.pk]), {"_save": "Save"}).status_code,
        superuser.get(reverse(f"{name}_delete", args=[thing.pk])).status_code,
        superuser.post(reverse(f"{name}_delete", args=[thing.pk]), {"post": "yes"}).status_code,
    ]
    act(superuser, name.removeprefix("admin:"), "delete_selected", model._default_manager.all())

    assert answers == [403] * 5
    assert list(model._default_manager.order_by("pk").values()) == before


@pytest.mark.parametrize(
    "statement", ["UPDATE portal_auditevent SET actor_name = 'x'", "DELETE FROM portal_auditevent"]
)
def test_g3_the_database_itself_refuses_to_change_audit_events(world, statement):
    with (
        pytest.raises(DatabaseError, match="never changed or deleted"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)

    assert AuditEvent.objects.filter(actor_name="x").count() == 0
    assert AuditEvent.objects.count() >= 2


def act(client: Client, name: str, action: str, rows: Any, *, confirmed: bool = True) -> Any:
    """Carry an action of a list out, confirmed or not, and return the answer."""
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows]}
    if confirmed:
        data["confirmed"] = "yes"
    return client.post(reverse(f"admin:{name}_changelist"), data)


def staff_with(*codenames: str) -> Client:
    """Return a staff member who may look at everything, and do what is named."""
    user = UserFactory.create(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    return signed_in(user)


def test_g4_staff_who_may_only_look_do_nothing(world):
    client, grant = staff_with(), world["grant"]
    page = client.get(reverse("admin:tokens_grant_changelist")).content.decode()

    for action in ("refresh", "revoke", "export"):
        answer = act(client, "tokens_grant", action, [grant])
        assert "text/csv" not in answer["Content-Type"]
    answer = act(client, "portal_auditevent", "export", AuditEvent.objects.all())

    assert "text/csv" not in answer["Content-Type"]
    assert 'name="action"' not in page
    assert Grant.objects.get(pk=grant.pk).status == GrantStatus.ACTIVE
    assert not AuditEvent.objects.exclude(actor_kind="system").exists()


def test_g4_staff_who_may_only_look_change_nothing(world):
    client = staff_with()

    for model, name in registered():
        thing = model._default_manager.first()
        if thing is None:
            continue
        assert client.get(reverse(f"{name}_change", args=[thing.pk])).status_code == 200
        answers = {
            client.post(reverse(f"{name}_add"), {}).status_code,
            client.post(reverse(f"{name}_change", args=[thing.pk]), {}).status_code,
            client.post(reverse(f"{name}_delete", args=[thing.pk]), {"post": "yes"}).status_code,
        }
        assert answers == {403}, name
    assert client.post(f"/admin/portal/user/{world['superuser'].pk}/password/", {}).status_code == 403


@pytest.mark.parametrize("held", ["refresh_grant", "revoke_grant", "export_grant"])
def test_g4_each_action_has_a_permission_of_its_own(world, sandbox, held):
    client, grant = staff_with(held), world["grant"]

    answers = {
        action: act(client, "tokens_grant", action, [grant]) for action in ("export", "refresh", "revoke")
    }

    events = set(AuditEvent.objects.filter(actor_kind="staff").values_list("event", flat=True))
    assert events == {
        {
            "refresh_grant": Event.GRANT_REFRESH_REQUESTED,
            "revoke_grant": Event.GRANT_REVOKED,
            "export_grant": Event.EXPORTED,
        }[held]
    }
    assert ("text/csv" in answers["export"]["Content-Type"]) == (held == "export_grant")


def test_g4_staff_make_nobody_staff_and_enter_no_staff_account(world):
    client = staff_with("change_user", "add_user")
    user = world["membership"].user
    form = {"email": user.email, "name": "x", "is_active": "on", "is_staff": "on", "is_superuser": "on"}
    password = {
        "usable_password": "true",
        "password1": "a new long password",
        "password2": "a new long password",
    }

    client.post(reverse("admin:portal_user_change", args=[user.pk]), {**form, **empty_formset("memberships")})
    answers = {
        client.post(reverse("admin:portal_user_change", args=[world["superuser"].pk]), form).status_code,
        client.post(f"/admin/portal/user/{world['superuser'].pk}/password/", password).status_code,
    }

    user.refresh_from_db()
    assert user.name == "x"
    assert not user.is_staff
    assert not user.is_superuser
    assert answers == {403}


@pytest.mark.parametrize("action", ["refresh", "revoke", "export"])
def test_an_action_asks_first(superuser, world, action):
    before = AuditEvent.objects.count()

    answer = act(superuser, "tokens_grant", action, [world["grant"]], confirmed=False)

    page = answer.content.decode()
    assert "user-4711" in page
    assert "No, go back" in page
    assert AuditEvent.objects.count() == before
    assert Grant.objects.get(pk=world["grant"].pk).status == GrantStatus.ACTIVE


def test_revoking_erases_the_tokens_and_is_audited_as_staff(superuser, world):
    act(superuser, "tokens_grant", "revoke", [world["grant"]])

    event = AuditEvent.objects.get(event=Event.GRANT_REVOKED)
    assert (event.actor_kind, event.actor_name) == ("staff", "staff@acme.example")
    assert not GrantTokens.objects.filter(grant=world["grant"]).exists()


def test_no_more_than_a_few_are_revoked_at_once(superuser, world):
    GrantFactory.create_batch(51, provider_config=world["config"])

    answer = act(superuser, "tokens_grant", "revoke", Grant.objects.all())

    assert answer.status_code == 302
    assert not AuditEvent.objects.filter(event=Event.GRANT_REVOKED).exists()


def test_g9_an_export_neutralises_formulas_and_is_in_the_applications_audit_log(superuser, world):
    GrantFactory.create(provider_config=world["config"], end_user='=HYPERLINK("https://evil.example")')

    answer = act(superuser, "tokens_grant", "export", Grant.objects.all())

    text = answer.getvalue().decode()
    assert "'=HYPERLINK" in text
    assert ",=HYPERLINK" not in text
    event = AuditEvent.objects.get(event=Event.EXPORTED)
    assert event.application_id == world["config"].application_id
    assert event.detail == {"connections": 4}


def test_an_export_of_all_that_match_is_not_cut_to_the_page(superuser, world):
    GrantFactory.create_batch(60, provider_config=world["config"])
    some = [Grant.objects.first()]
    data = {
        "action": "export",
        "select_across": "1",
        "confirmed": "yes",
        "_selected_action": [str(one.pk) for one in some if one],
    }

    answer = superuser.post(reverse("admin:tokens_grant_changelist"), data)

    assert len(answer.getvalue().decode().splitlines()) == 64


def test_one_search_answers_who_has_access_to_what_since_when_and_who_used_it(superuser, world):
    record(
        Event.TOKEN_HANDED_OUT,
        actor=SYSTEM,
        application=world["config"].application,
        subject=world["grant"],
    )

    for words in (
        "user-4711",
        "4711 acme",
        "Acme Tasks user-47",
        str(world["grant"].pk),
        world["grant"].account_email,
    ):
        page = superuser.get(reverse("admin:tokens_grant_changelist"), {"q": words}).content.decode()
        row = page[page.index("<tbody>") :]
        for word in ("user-4711", "Acme Tasks", "Atlassian", "acme", "Fresh", "by portal", "read:jira-work"):
            assert word in row
        assert row.count("<tr>") == 1


def test_members_changed_by_staff_are_audited_and_an_owner_stays(superuser, world):
    application, membership = world["config"].application, world["membership"]
    url = reverse("admin:portal_application_change", args=[application.pk])
    form = {
        "memberships-TOTAL_FORMS": "2",
        "memberships-INITIAL_FORMS": "1",
        "memberships-MIN_NUM_FORMS": "0",
        "memberships-MAX_NUM_FORMS": "1000",
        "memberships-0-id": str(membership.pk),
        "memberships-0-application": str(application.pk),
        "memberships-0-role": Role.SUPPORT.value,
        "memberships-1-application": str(application.pk),
        "memberships-1-user": str(world["superuser"].pk),
        "memberships-1-role": Role.OWNER.value,
    }

    refused = superuser.post(url, {**form, "memberships-1-role": Role.ADMIN.value})
    accepted = superuser.post(url, form)

    assert "Every application needs an owner." in refused.content.decode()
    assert accepted.status_code == 302
    assert Membership.objects.get(application=application, role=Role.OWNER).user == world["superuser"]
    events = AuditEvent.objects.filter(actor_kind="staff").values_list("event", "subject_name")
    assert set(events) == {
        (Event.MEMBER_JOINED, "staff@acme.example"),
        (Event.MEMBER_ROLE_CHANGED, "owner@acme.example"),
    }


def test_a_provider_disabled_by_staff_is_audited(superuser, world):
    superuser.post(
        reverse("admin:providers_providerconfig_change", args=[world["config"].pk]), {"_save": "Save"}
    )

    event = AuditEvent.objects.get(event=Event.PROVIDER_DISABLED)
    assert (event.actor_kind, event.application_id) == ("staff", world["config"].application_id)
    assert not ProviderConfig.objects.get(pk=world["config"].pk).is_enabled


def test_deleting_a_session_in_the_admin_signs_its_browser_out(superuser, world):
    session = UserSession.objects.get(session_key=f"{CANARY}-session")

    superuser.post(reverse("admin:usersessions_usersession_delete", args=[session.pk]), {"post": "yes"})

    assert not Session.objects.filter(session_key=f"{CANARY}-session").exists()


def test_a_grant_whose_catalog_file_is_gone_breaks_no_page(superuser):
    grant = GrantFactory.create(provider_config__provider_id="gone-provider")

    for address in (
        reverse("admin:tokens_grant_changelist"),
        reverse("admin:tokens_grant_change", args=[grant.pk]),
        reverse("admin:providers_providerconfig_change", args=[grant.provider_config_id]),
    ):
        assert superuser.get(address).status_code == 200
    assert act(superuser, "tokens_grant", "refresh", [grant]).status_code == 302
    assert act(superuser, "tokens_grant", "revoke", [grant]).status_code == 302


def test_the_lists_are_light(superuser, world, django_assert_max_num_queries):
    GrantFactory.create_batch(30, provider_config=world["config"])

    for name in (
        "tokens_grant",
        "portal_auditevent",
        "tokens_refreshattempt",
        "tokens_connectsession",
        "tokens_site",
    ):
        with django_assert_max_num_queries(12):
            superuser.get(reverse(f"admin:{name}_changelist"))
