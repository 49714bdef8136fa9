"""Both ways to a token, the hot path's and the ordinary one, give the same answers and the same audit rows (D9)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test import Client

from portal import api_keys
from portal.audit import SYSTEM
from portal.models import ApiKey, AuditEvent, Event
from tests.factories import CANARY, GrantFactory, ProviderConfigFactory, database_now
from tests.tokens.api.caller import Caller, without_link
from tests.tokens.api.hot_client import HotClient
from tests.tokens.connecting import configured
from tests.tokens.made_up import made_up_provider
from tokens.models import Grant, GrantTokens, Site

if TYPE_CHECKING:
    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db


@pytest.fixture
def config(sandbox: SandboxThread) -> ProviderConfig:
    return configured(sandbox)


@pytest.fixture
def caller(config: ProviderConfig) -> Caller:
    return Caller(config.application)


def both(caller: Caller, path: str, **options: Any) -> tuple[Any, Any]:
    """Make the same call both ways: the hot answer and the ordinary one."""
    options.setdefault("headers", {"Authorization": f"Bearer {caller.text}"})
    hot = caller.call("get", path, **options)
    ordinary = Client().get(f"/api/v1/{path}", **options)
    assert not hasattr(ordinary, "is_hot")
    return hot, ordinary


# What differs from call to call, and is looked at elsewhere.
OWN = {"X-Request-Id", "RateLimit-Remaining", "RateLimit-Reset"}


def headers_of(response: Any) -> dict[str, str]:
    return {name: value for name, value in response.items() if name not in OWN}


def rows() -> list[dict[str, Any]]:
    found = AuditEvent.objects.filter(event=Event.TOKEN_HANDED_OUT).order_by("id").values()
    return [
        {name: value for name, value in row.items() if name not in {"id", "at", "request_id"}}
        for row in found
    ]


TRAITS: dict[str, dict[str, Any]] = {
    "usual": {},
    "no sites": {"site_names": []},
    "several sites": {"site_names": ["zeta", "acme", "Öl & Gas"]},
    "odd names": {"account_name": 'A "quoted" name', "end_user": "user'1"},
    "long names": {"account_name": "x" * 200, "end_user": "u" * 200},
    "no name": {"account_name": ""},
    "no scopes": {"granted_scopes": []},
    "about to end": {"due": True},
    "a claim under way": {"inflight_gen": 3, "gen": 3, "inflight_since": "now"},
}


@pytest.mark.parametrize("fields", TRAITS.values(), ids=TRAITS)
def test_d9_both_ways_give_the_same_answer_and_the_same_audit_row(caller, config, fields):
    if fields.get("inflight_since"):
        fields = {**fields, "inflight_since": database_now() - timedelta(seconds=90)}
    grant = GrantFactory(provider_config=config, **fields)
    Site.objects.filter(name="zeta").update(is_chosen=False)
    Site.objects.filter(name="acme").update(products=["Jira", "Confluence", "Trello"])

    hot, ordinary = both(caller, f"grants/{grant.pk}/token")

    assert hot.is_hot
    assert (hot.status_code, headers_of(hot)) == (ordinary.status_code, headers_of(ordinary))
    told, expected = hot.json(), ordinary.json()
    if not fields.get("inflight_since"):  # Else it is counted from when the answer was asked for.
        assert (
            timedelta(0)
            <= moment(expected.pop("use_until")) - moment(told.pop("use_until"))
            < timedelta(seconds=5)
        )
    assert told == expected
    first, second = rows()
    assert first["detail"].pop("use_until")[:10] == second["detail"].pop("use_until")[:10]
    assert first == second
    assert AuditEvent.objects.filter(request_id=hot["X-Request-Id"]).exists()
    assert len(hot["X-Request-Id"]) == len(ordinary["X-Request-Id"])


def moment(text: str) -> Any:
    from django.utils.dateparse import parse_datetime

    return parse_datetime(text)


def test_both_ways_find_an_end_user_s_only_connection(caller, config):
    GrantFactory(provider_config=config, end_user="user-1")
    GrantFactory(provider_config=config, end_user="user-1", pending=True)
    GrantFactory(provider_config=config, end_user="user-1", revoked=True)
    GrantFactory(provider_config=config, end_user="user-2")

    hot, ordinary = both(caller, "token?end_user=user-1&provider=atlassian&min_ttl=120")

    assert hot.is_hot
    assert hot.json()["grant"] == ordinary.json()["grant"]


def test_a_token_that_never_ends_is_handed_out_both_ways(sandbox, tmp_path, settings):
    config = made_up_provider(sandbox, tmp_path, settings)
    grant = GrantFactory(provider_config=config, access_expires_at=None, site_names=[])

    hot, ordinary = both(Caller(config.application), f"grants/{grant.pk}/token")

    assert hot.is_hot
    assert hot.json() == ordinary.json()
    assert (hot.json()["expires_at"], hot.json()["use_until"]) == (None, None)
    assert rows()[0] == rows()[1]


@pytest.mark.parametrize("proto", ["http", "https"])
def test_headers_are_django_s_own_behind_a_proxy_too(caller, config, settings, proto):
    settings.TRUSTED_PROXIES = 1
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.SECURE_HSTS_SECONDS = 1000
    grant = GrantFactory(provider_config=config)
    sent = {
        "Authorization": f"Bearer {caller.text}",
        "X-Forwarded-Proto": proto,
        "X-Forwarded-For": "203.0.113.9",
    }

    hot, ordinary = both(caller, f"grants/{grant.pk}/token", headers=sent)

    assert hot.is_hot
    assert headers_of(hot) == headers_of(ordinary)
    assert [row["ip_address"] for row in rows()] == ["203.0.113.9", "203.0.113.9"]


# --- What is not the usual case goes the ordinary way ---------------------------------------------------------------


def _nothing(key: ApiKey, grant: Grant) -> None:
    """Change nothing."""


def _fields(**fields: Any) -> Any:
    return lambda key, grant: Grant.objects.filter(pk=grant.pk).update(**fields)


def _key(**fields: Any) -> Any:
    return lambda key, grant: ApiKey.objects.filter(pk=key.pk).update(**fields)


def _config(**fields: Any) -> Any:
    return lambda key, grant: (
        type(grant.provider_config).objects.filter(pk=grant.provider_config_id).update(**fields)
    )


UNUSUAL: dict[str, tuple[Any, str, dict[str, Any], str]] = {
    # What is done first, the path, what is sent beside it, and the code of the answer.
    "revoked key": (lambda key, grant: api_keys.revoke(key, actor=SYSTEM), "", {}, "bad_key"),
    "expired key": (_key(expires_at="2020-01-01T00:00Z"), "", {}, "bad_key"),
    "wrong secret": (_key(secret_digest="0" * 64), "", {}, "bad_key"),
    "without the permission": (_key(permissions=["connect"]), "", {}, "missing_permission"),
    "another provider's key": (_key(provider_ids=["github"]), "", {}, "not_found"),
    "from elsewhere": (_key(networks=["203.0.113.0/24"]), "", {}, "ip_not_allowed"),
    "pending": (_fields(status="pending"), "", {}, "not_confirmed"),
    "revoked": (_fields(status="revoked"), "", {}, "revoked"),
    "needs reconnect": (_fields(status="needs_reconnect"), "", {}, "needs_reconnect"),
    "no token": (lambda key, grant: GrantTokens.objects.all().delete(), "", {}, "unreadable_token"),
    "provider off": (_config(is_enabled=False), "", {}, "provider_disabled"),
    "provider gone": (_config(provider_id="gone"), "", {}, "not_in_catalog"),
    "archived": (
        lambda key, grant: type(grant.application).objects.update(archived_at="2026-01-01T00:00Z"),
        "",
        {},
        "provider_disabled",
    ),
    "unknown field": (_nothing, "?ttl=1", {}, "bad_field"),
    "field twice": (_nothing, "?min_ttl=1&min_ttl=2", {}, "bad_field"),
    "min_ttl too long": (_nothing, "?min_ttl=3601", {}, "bad_field"),
    "min_ttl in other digits": (_nothing, "?min_ttl=٣", {}, "bad_field"),
    "no key": (_nothing, "", {"headers": {}}, "no_key"),
    "another scheme": (_nothing, "", {"headers": {"Authorization": "Basic dpk_"}}, "no_key"),
}


@pytest.mark.parametrize(("change", "query", "options", "code"), UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_is_left_to_the_ordinary_way(caller, config, change, query, options, code):
    grant = GrantFactory(provider_config=config)
    assert caller.get(f"grants/{grant.pk}/token").is_hot
    change(caller.key, grant)

    hot, ordinary = both(caller, f"grants/{grant.pk}/token{query}", **options)

    assert not hot.is_hot
    if code:
        assert (hot.json()["code"], hot.status_code) == (code, ordinary.status_code)
        assert without_link(hot.content) == without_link(ordinary.content)
        assert len(rows()) == 1


def test_d4_a_key_in_the_body_is_seen_although_nobody_asked_for_a_body(caller, config):
    grant = GrantFactory(provider_config=config)

    response = caller.send("GET", f"grants/{grant.pk}/token", f"key={caller.text}".encode())

    assert (response.is_hot, response.json()["code"]) == (False, "misplaced_key")


def test_d3_a_key_or_grant_that_is_taken_back_is_refused_at_the_next_call(caller, config):
    first, second = (GrantFactory(provider_config=config) for _ in range(2))
    assert caller.get(f"grants/{first.pk}/token").is_hot
    assert caller.get(f"grants/{second.pk}/token").is_hot

    caller.delete(f"grants/{first.pk}")
    assert caller.get(f"grants/{first.pk}/token").json()["code"] == "revoked"
    api_keys.revoke(caller.key, actor=SYSTEM)
    assert caller.get(f"grants/{second.pk}/token").json()["code"] == "bad_key"


def test_d1_a_stranger_s_key_finds_nothing_on_the_hot_path(caller, config, cast):
    grant = GrantFactory(provider_config=config, end_user="user-1")
    ProviderConfigFactory(application=cast.strangers_application)
    stranger = Caller(cast.strangers_application)

    for path in (f"grants/{grant.pk}/token", "token?end_user=user-1&provider=atlassian"):
        response = stranger.call("get", path)
        assert (response.is_hot, response.json()["code"]) == (False, "not_found")
    assert rows() == []


def test_c9_a_typo_in_a_key_is_no_key_on_the_hot_path_either(caller, config):
    grant = GrantFactory(provider_config=config)
    caller.text = caller.text[:-1] + ("x" if caller.text[-1] != "x" else "y")

    response = caller.get(f"grants/{grant.pk}/token")

    assert (response.is_hot, response.json()["code"]) == (False, "bad_key")


def test_a_host_that_is_not_ours_is_left_to_django(caller, config):
    grant = GrantFactory(provider_config=config)

    response = HotClient().get(
        f"/api/v1/grants/{grant.pk}/token",
        headers={"Authorization": f"Bearer {caller.text}", "Host": "evil.example"},
    )

    assert (response.is_hot, response.status_code) == (False, 400)
    assert len(rows()) == 0


@pytest.mark.parametrize(
    ("left", "lives", "min_ttl", "is_hot"),
    [
        (59, 3600, 60, False),
        (61, 3600, 60, True),
        (55, 100, 60, True),
        (45, 100, 60, False),
        (299, 3600, 300, False),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_a_token_that_must_be_refreshed_first_is_left_to_the_ordinary_way(
    caller, config, sandbox, left, lives, min_ttl, is_hot
):
    # The half-life rule: of a token that lives 100 s no more than 50 s are asked for.
    tokens = sandbox.mint(config.client_id, account="jo")[0]
    # The hot path takes the connection that it finds, unless that is older than CONN_MAX_AGE, as a test's may be.
    connection.close()
    now = database_now()
    grant = GrantFactory(
        provider_config=config,
        access_token=tokens["access_token"],
        refresh_token=tokens["refresh_token"],
        access_expires_at=now + timedelta(seconds=left + 0.5),
        refreshed_at=now - timedelta(seconds=lives - left),
    )

    response = caller.get(f"grants/{grant.pk}/token", min_ttl=min_ttl)

    assert (response.status_code, response.is_hot) == (200, is_hot)
    assert len(sandbox.ledger("/oauth/token")) == (0 if is_hot else 1)


def test_a_token_that_does_not_open_is_told_in_words(caller, config):
    grant = GrantFactory(provider_config=config)
    GrantTokens.objects.filter(grant=grant).update(access_token=b"\x01\x09k20260101 damaged beyond repair")

    response = caller.get(f"grants/{grant.pk}/token")

    assert (response.is_hot, response.json()["code"]) == (False, "unreadable_token")
    assert CANARY not in response.content.decode()


def test_uses_are_noted_by_the_minute(caller, config):
    grant = GrantFactory(provider_config=config)
    caller.get(f"grants/{grant.pk}/token")
    first = Grant.objects.get().used_at, ApiKey.objects.get().last_used_at
    assert None not in first

    caller.get(f"grants/{grant.pk}/token")
    assert (Grant.objects.get().used_at, ApiKey.objects.get().last_used_at) == first

    long_ago = database_now() - timedelta(minutes=2)
    Grant.objects.update(used_at=long_ago)
    ApiKey.objects.update(last_used_at=long_ago, last_used_ip=None)
    assert caller.get(f"grants/{grant.pk}/token").is_hot
    assert Grant.objects.filter(used_at__gt=long_ago).exists()
    assert ApiKey.objects.filter(last_used_at__gt=long_ago).exists()
    assert ApiKey.objects.get().last_used_ip == "127.0.0.1"
