"""API keys on the portal and from a shell: made, shown once, listed, revoked."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.urls import reverse

from portal import api_keys
from portal.audit import SYSTEM
from portal.models import ApiKey, AuditEvent, Event
from portal.reports import redact
from tests.factories import ProviderConfigFactory

pytestmark = pytest.mark.django_db

FIELDS = {"name": "production", "permissions": ["tokens:read", "connect"], "days": "365"}


def _url(name, *args):
    return reverse(name, args=["acme-tasks", *args])


def _key(cast, **fields):
    return api_keys.create(
        cast.application, **{"name": "nightly", "permissions": ["connect"], "actor": SYSTEM, **fields}
    )


def _shown(page):
    return api_keys.KEY_PATTERN.search(page)[0]


def test_an_admin_makes_a_key_that_is_shown_once(cast):
    client = cast.client("admin")

    page = client.post(_url("api-key-create"), FIELDS).content.decode()

    text = _shown(page)
    assert "It is shown only now" in page
    assert f'data-copy="{text}"' in page
    key = api_keys.recognise(text, ip_address=None)
    assert key is not None
    assert key.application == cast.application
    assert key.permissions == ["connect", "tokens:read"]
    assert key.created_by == cast.admin
    assert timedelta(days=364) < key.expires_at - key.created_at <= timedelta(days=365)
    listed = client.get(_url("api-key-list")).content.decode()
    assert key.shown_id in listed
    assert text not in listed
    event = AuditEvent.objects.get(event=Event.API_KEY_CREATED)
    assert event.actor_name == str(cast.admin)
    assert event.detail["permissions"] == ["connect", "tokens:read"]


def test_a_key_can_be_limited_to_a_provider_of_the_application(cast):
    ProviderConfigFactory(application=cast.application)
    client = cast.client("owner")

    client.post(_url("api-key-create"), {**FIELDS, "provider_ids": ["atlassian"]})
    refused = client.post(_url("api-key-create"), {**FIELDS, "provider_ids": ["github"]})

    assert ApiKey.objects.get().provider_ids == ["atlassian"]
    assert refused.status_code == 422


def test_a_key_that_may_do_nothing_is_not_made(cast):
    response = cast.client("owner").post(_url("api-key-create"), {"name": "x", "days": "30"})

    assert response.status_code == 422
    assert "Choose at least one thing" in response.content.decode()
    with pytest.raises(IntegrityError, match="api_key_permissions_known"), transaction.atomic():
        _key(cast, permissions=[])
    with pytest.raises(IntegrityError, match="api_key_permissions_known"), transaction.atomic():
        _key(cast, permissions=["everything"])


def test_a_key_is_revoked_at_once_and_only_once(cast):
    key, text = _key(cast)
    client = cast.client("owner")

    assert "Revoke nightly?" in client.get(_url("api-key-revoke", key.pk)).content.decode()
    page = client.post(_url("api-key-revoke", key.pk), follow=True).content.decode()
    again = client.post(_url("api-key-revoke", key.pk), follow=True).content.decode()

    assert "Nobody gets in with “nightly” any more." in page
    assert "was revoked before" in again
    assert api_keys.recognise(text, ip_address=None) is None
    assert AuditEvent.objects.filter(event=Event.API_KEY_REVOKED).count() == 1


def test_the_list_says_when_and_from_where_a_key_was_last_used(cast):
    _, text = _key(cast)
    api_keys.recognise(text, ip_address="203.0.113.7")

    page = cast.client("owner").get(_url("api-key-list")).content.decode()

    assert "from 203.0.113.7" in page


def test_using_a_key_again_within_the_minute_writes_nothing(cast, django_assert_num_queries):
    _, text = _key(cast)
    api_keys.recognise(text, ip_address="203.0.113.7")

    with django_assert_num_queries(1):
        api_keys.recognise(text, ip_address="203.0.113.7")


def test_the_menu_offers_keys_to_those_who_may_manage_them(cast):
    assert _url("api-key-list") in cast.client("admin").get(_url("member-list")).content.decode()
    assert _url("api-key-list") not in cast.client("support").get(_url("member-list")).content.decode()


def test_an_expired_key_is_listed_as_such(cast):
    key, _ = _key(cast)
    ApiKey.objects.filter(pk=key.pk).update(expires_at="2020-01-01T00:00Z")

    assert "Expired" in cast.client("owner").get(_url("api-key-list")).content.decode()


def test_the_command_makes_lists_and_revokes_keys(cast, capsys):
    call_command("apikey", "create", "acme-tasks", "ci", permissions=["tokens:read"])
    text = capsys.readouterr().out.strip()
    assert api_keys.KEY_PATTERN.fullmatch(text)

    call_command("apikey", "list", "acme-tasks")
    listed = capsys.readouterr().out
    assert re.fullmatch(r"dpk_\w{12}  until \d{4}-\d\d-\d\d  ci\n", listed)

    call_command("apikey", "revoke", listed.split()[0])
    assert api_keys.recognise(text, ip_address=None) is None


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (["create", "nothing", "ci"], {"permissions": ["connect"]}, "There is no application 'nothing'"),
        (["create", "acme-tasks", "ci"], {"permissions": ["connect"], "days": 0}, "--days must be"),
        (
            ["create", "acme-tasks", "ci"],
            {"permissions": ["connect"], "provider_ids": ["github"]},
            "Not configured for Acme Tasks: github",
        ),
        (["revoke", "dpk_nothing"], {}, "There is no such key"),
    ],
)
def test_the_command_says_what_is_wrong(cast, args, options, message):
    with pytest.raises(CommandError, match=message):
        call_command("apikey", *args, **options)


def test_logs_hide_the_secret_of_a_key_and_keep_its_id(cast):
    key, text = _key(cast)

    line = redact(f"refused {text}!")

    assert line == f"refused {key.shown_id}_[hidden]!"
