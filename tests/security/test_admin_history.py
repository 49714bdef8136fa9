"""Django admin changes no history (G3), and who may only look does nothing (G4)."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import DatabaseError, connection, transaction
from django.urls import reverse

from portal.models import AuditEvent, AuditSeal, Event, KeyCheck
from tests.factories import (
    UserFactory,
)
from tokens.models import (
    AuthorizationRequest,
    ConnectSession,
    Grant,
    GrantStatus,
    RefreshAttempt,
    RefreshCount,
    Site,
)

if TYPE_CHECKING:
    from django.test import Client
from tests.security.admin_world import act, empty_formset, registered, signed_in

pytestmark = pytest.mark.django_db

HISTORY = [
    AuditEvent,
    AuditSeal,
    Grant,
    Site,
    ConnectSession,
    AuthorizationRequest,
    RefreshAttempt,
    RefreshCount,
    KeyCheck,
    LogEntry,
]


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


def test_g3_staff_see_until_when_the_audit_log_is_sealed(superuser, world, django_assert_max_num_queries):
    first, second = AuditSeal.objects.order_by("until")

    with django_assert_max_num_queries(10):
        page = superuser.get(reverse("admin:portal_auditseal_changelist")).content.decode()

    rows = re.findall(
        r'field-begins[^>]*>([^<]+)<.*?field-ends[^>]*>([^<]+)<.*?<a href="([^"]+)">([^<]+)<', page
    )
    ends = [f"{seal.until:%Y-%m-%d %H:%M:%S} UTC" for seal in (first, second)]
    assert [(begin, end, held) for begin, end, _, held in rows] == [
        (ends[0], ends[1], "1,234"),
        ("the beginning", ends[0], "5"),
    ]
    assert superuser.get(unescape(rows[0][2])).status_code == 200


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
