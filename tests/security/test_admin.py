"""Django admin shows no secret (G1, G2), to whom it may be shown least of all.

Every secret column is filled with something that can be recognised, then every address is fetched as superuser.
"""

from __future__ import annotations

import re
from collections import deque
from urllib.parse import urljoin

import pytest
from allauth.socialaccount.models import SocialApp, SocialToken
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.urls import reverse

from portal.models import AuditEvent, User
from tests.factories import (
    CANARY,
)
from tests.security.admin_world import act, empty_formset, marks, registered
from tokens.models import (
    Grant,
    GrantTokens,
)

pytestmark = pytest.mark.django_db

MOST_PAGES = 1500


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
