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
from portal.logs import redact
from portal.models import ApiKey, AuditEvent, Event
from tests.factories import PASSWORD, ProviderConfigFactory, database_now

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

    assert "Revoke the key “nightly”?" in client.get(_url("api-key-revoke", key.pk)).content.decode()
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


def test_a_key_with_ip_ranges_is_let_in_from_there_alone(cast):
    client = cast.client("owner")
    page = client.post(
        _url("api-key-create"), {**FIELDS, "networks": "203.0.113.0/24\n2001:db8::7\n203.0.113.0/24"}
    ).content.decode()
    text = _shown(page)

    assert ApiKey.objects.get().networks == ["203.0.113.0/24", "2001:db8::7/128"]
    for address in ("203.0.113.200", "::ffff:203.0.113.200", "2001:db8::7"):
        assert api_keys.recognise(text, ip_address=address) is not None
    for elsewhere in ("203.0.114.1", "2001:db8::8", None):
        with pytest.raises(api_keys.WrongNetworkError):
            api_keys.recognise(text, ip_address=elsewhere)
    # Noted once a minute; what was refused was no use.
    assert ApiKey.objects.get().last_used_ip == "203.0.113.200"
    assert "from 203.0.113.0/24" in client.get(_url("api-key-list")).content.decode()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            "203.0.113.7/24",
            "Line 1: “203.0.113.7/24” begins at another address than it says; write 203.0.113.0/24.",
        ),
        ("\neverywhere", "Line 2: “everywhere” is not an IP range"),
        ("\n".join(f"10.0.{n}.0/24" for n in range(51)), "These are 51 ranges; 50 is the most."),
    ],
)
def test_a_wrong_ip_range_is_named(cast, lines, words):
    response = cast.client("owner").post(_url("api-key-create"), {**FIELDS, "networks": lines})

    assert response.status_code == 422
    assert words in response.content.decode()
    assert not ApiKey.objects.exists()


def test_d3_other_ip_ranges_and_another_name_hold_from_the_next_call_on(cast):
    key, text = _key(cast, networks=["203.0.113.0/24"])
    client = cast.client("admin")
    page = client.get(_url("api-key-change", key.pk)).content.decode()
    assert 'value="nightly"' in page
    assert "203.0.113.0/24</textarea>" in page

    saved = client.post(
        _url("api-key-change", key.pk),
        {"name": "weekly", "networks": "198.51.100.0/24\n2001:db8::7"},
        follow=True,
    )

    assert "for the next call of “weekly”" in saved.content.decode()
    with pytest.raises(api_keys.WrongNetworkError):
        api_keys.recognise(text, ip_address="203.0.113.1")
    assert api_keys.recognise(text, ip_address="198.51.100.7") is not None
    event = AuditEvent.objects.get(event=Event.API_KEY_CHANGED)
    assert (event.actor_name, event.subject_id) == (str(cast.admin), str(key.pk))
    assert event.detail == {
        "key": key.shown_id,
        "changes": {
            "name": ["nightly", "weekly"],
            "networks": [["203.0.113.0/24"], ["198.51.100.0/24", "2001:db8::7/128"]],
        },
    }


def test_saving_a_key_as_it_is_changes_nothing_and_is_no_event(cast):
    key, _ = _key(cast, networks=["203.0.113.0/24"])

    page = cast.client("owner").post(
        _url("api-key-change", key.pk), {"name": "nightly", "networks": "203.0.113.0/24"}, follow=True
    )

    assert "Nothing was changed." in page.content.decode()
    assert not AuditEvent.objects.filter(event=Event.API_KEY_CHANGED).exists()


def test_d7_nothing_else_of_a_key_can_be_changed(cast):
    key, _ = _key(cast)
    before = ApiKey.objects.values().get()

    cast.client("owner").post(
        _url("api-key-change", key.pk),
        {
            "name": "nightly",
            "networks": "",
            "permissions": ["tokens:read"],
            "provider_ids": [],
            "days": "730",
            "expires_at": "2099-01-01",
            "application": str(cast.strangers_application.pk),
        },
    )

    assert ApiKey.objects.values().get() == before


@pytest.mark.parametrize("how", ["revoked", "expired", "export"])
def test_a_key_that_is_over_and_one_to_export_are_not_changed(cast, how):
    key, _ = _key(
        cast, permissions=["grants:export"] if how == "export" else ["connect"], networks=["10.0.0.0/8"]
    )
    if how == "revoked":
        api_keys.revoke(key, actor=SYSTEM)
    elif how == "expired":
        ApiKey.objects.update(expires_at=database_now())
    client = cast.client("owner")

    page = client.post(_url("api-key-change", key.pk), {"name": "x", "networks": ""}, follow=True)

    assert "works no more, or is an export key" in page.content.decode()
    assert (ApiKey.objects.get().name, ApiKey.objects.get().networks) == ("nightly", ["10.0.0.0/8"])
    assert f'href="{_url("api-key-change", key.pk)}"' not in client.get(_url("api-key-list")).content.decode()
    with pytest.raises(CommandError, match="Make a new one"):
        call_command("apikey", "change", key.shown_id, "--everywhere")


def test_a_wrong_ip_range_leaves_a_key_as_it_was(cast):
    key, _ = _key(cast, networks=["10.0.0.0/8"])

    response = cast.client("owner").post(
        _url("api-key-change", key.pk), {"name": "", "networks": "everywhere"}
    )

    assert response.status_code == 422
    assert "“everywhere” is not an IP range" in response.content.decode()
    assert "Give the key a name" in response.content.decode()
    assert ApiKey.objects.get().networks == ["10.0.0.0/8"]


def test_the_command_changes_a_key(cast, capsys):
    key, _ = _key(cast)

    def stands() -> tuple[str, list[str]]:
        key.refresh_from_db()
        return key.name, key.networks

    call_command("apikey", "change", key.shown_id, "--network", "10.0.0.0/8", "--network", "10.0.0.0/8")
    assert stands() == ("nightly", ["10.0.0.0/8"])
    call_command("apikey", "change", key.shown_id, "--name", "weekly")
    assert stands() == ("weekly", ["10.0.0.0/8"])
    call_command("apikey", "change", key.shown_id, "--everywhere")
    assert stands() == ("weekly", [])
    call_command("apikey", "change", key.shown_id, "--everywhere")

    told = capsys.readouterr().out.splitlines()
    assert told == [*[f"{key.shown_id} is changed."] * 3, f"{key.shown_id} was so before."]
    assert AuditEvent.objects.filter(event=Event.API_KEY_CHANGED, actor_kind="system").count() == 3


def test_d3_both_keys_of_a_rotation_work_until_the_chosen_day(cast):
    key, old = _key(cast, networks=["203.0.113.0/24"], provider_ids=["atlassian"])
    client = cast.client("owner")
    until = database_now().date() + timedelta(days=3)

    page = client.post(_url("api-key-rotate", key.pk), {"until": str(until), "days": "90"}).content.decode()

    new = _shown(page)
    assert (
        f"is let in until {until} 23:59:" in page
        or f"is let in until {until + timedelta(days=1)} 00:00:00" in page
    )
    for text in (old, new):
        assert api_keys.recognise(text, ip_address="203.0.113.1") is not None
    replacement = ApiKey.objects.get(replaces=key)
    assert (replacement.permissions, replacement.provider_ids, replacement.networks) == (
        key.permissions,
        ["atlassian"],
        ["203.0.113.0/24"],
    )
    assert "Replaced" in client.get(_url("api-key-list")).content.decode()
    assert AuditEvent.objects.get(event=Event.API_KEY_ROTATED).detail["replaced_by"] == replacement.shown_id

    ApiKey.objects.filter(pk=key.pk).update(expires_at=database_now())

    assert api_keys.recognise(old, ip_address="203.0.113.1") is None
    assert api_keys.recognise(new, ip_address="203.0.113.1") is not None


def test_a_rotation_never_makes_the_old_key_last_longer(cast):
    key, _ = _key(cast, lifetime=timedelta(days=1))

    api_keys.rotate(key, overlap=timedelta(days=30), actor=SYSTEM)

    assert ApiKey.objects.get(pk=key.pk).expires_at == key.expires_at


def test_a_key_is_rotated_once_by_two_clicks(cast):
    key, _ = _key(cast)
    client = cast.client("owner")
    fields = {"until": str(database_now().date()), "days": "365"}

    client.post(_url("api-key-rotate", key.pk), fields)
    again = client.post(_url("api-key-rotate", key.pk), fields, follow=True)

    assert "was rotated before" in again.content.decode()
    assert ApiKey.objects.count() == 2


@pytest.mark.parametrize("days", [-1, 91])
def test_an_overlap_out_of_reach_is_refused(cast, days):
    key, _ = _key(cast)
    until = database_now().date() + timedelta(days=days)

    response = cast.client("owner").post(_url("api-key-rotate", key.pk), {"until": str(until), "days": "365"})

    assert response.status_code == 422
    assert "Choose a day from" in response.content.decode()


def test_a_key_near_its_end_says_so_until_it_is_rotated(cast):
    key, _ = _key(cast, lifetime=timedelta(days=20))
    client = cast.client("owner")
    assert "nightly ends soon." in client.get(_url("api-key-list")).content.decode()

    api_keys.rotate(key, overlap=timedelta(days=7), actor=SYSTEM)

    assert "ends soon" not in client.get(_url("api-key-list")).content.decode()


def test_g10_an_owner_makes_an_export_key_after_giving_the_password_again(cast):
    client = cast.client("owner")
    url = _url("api-key-export")

    asked = client.get(url)
    client.post(asked["Location"], {"password": PASSWORD})
    assert "Whoever has its answer has the access" in client.get(url).content.decode()
    wrong = client.post(url, {"networks": "everywhere"})
    page = client.post(url, {"networks": "203.0.113.0/24"}).content.decode()

    assert asked["Location"].startswith(reverse("account_reauthenticate"))
    assert wrong.status_code == 422
    key = api_keys.recognise(_shown(page), ip_address="203.0.113.7")
    assert key is not None
    assert key.permissions == ["grants:export"]
    assert key.expires_at - key.created_at <= timedelta(days=1)
    # A second one needs the password again, so there is no way round it.
    with pytest.raises(api_keys.NotRotatableError):
        api_keys.rotate(key, overlap=timedelta(days=1), actor=SYSTEM)
    listed = client.get(_url("api-key-list")).content.decode()
    assert _url("api-key-rotate", key.pk) not in listed
    assert "ends soon" not in listed
    assert url in client.get(_url("application-settings")).content.decode()
    assert url not in cast.client("admin").get(_url("application-settings")).content.decode()


def test_no_page_offers_the_permission_to_export(cast):
    page = cast.client("owner").get(_url("api-key-create")).content.decode()
    response = cast.client("owner").post(_url("api-key-create"), {**FIELDS, "permissions": ["grants:export"]})

    assert "grants:export" not in page
    assert response.status_code == 422


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
    assert re.fullmatch(r"dpk_\w{12}  until \d{4}-\d\d-\d\d  never used  ci\n", listed)

    call_command("apikey", "rotate", listed.split()[0], overlap_days=1)
    new = capsys.readouterr().out.strip()
    assert api_keys.recognise(text, ip_address=None) is not None
    assert api_keys.recognise(new, ip_address=None) is not None

    call_command("apikey", "revoke", listed.split()[0])
    assert api_keys.recognise(text, ip_address=None) is None
    assert api_keys.recognise(new, ip_address=None) is not None


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
        (
            ["create", "acme-tasks", "ci"],
            {"permissions": ["connect"], "networks": ["10.0.0.1/8"]},
            r"write 10\.0\.0\.0/8",
        ),
        (["revoke", "dpk_nothing"], {}, "There is no such key"),
        (["change", "dpk_nothing"], {"everywhere": True}, "There is no such key"),
        (["rotate", "dpk_nothing"], {"overlap_days": 91}, "--overlap-days must be"),
    ],
)
def test_the_command_says_what_is_wrong(cast, args, options, message):
    with pytest.raises(CommandError, match=message):
        call_command("apikey", *args, **options)


def test_logs_hide_the_secret_of_a_key_and_keep_its_id(cast):
    key, text = _key(cast)

    line = redact(f"refused {text}!")

    assert line == f"refused {key.shown_id}_[hidden]!"
