"""The list of connections."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from portal.models import Role
from providers.spec import Outcome
from tests.factories import GrantFactory, ProviderConfigFactory, database_now
from tokens import browse
from tokens.models import Grant, GrantTokens

if TYPE_CHECKING:
    from pytest_django.fixtures import DjangoAssertNumQueries

    from providers.models import ProviderConfig
    from tests.conftest import Cast

pytestmark = pytest.mark.django_db

URL = "/applications/acme-tasks/connections/"


@pytest.fixture
def config(cast: Cast) -> ProviderConfig:
    return ProviderConfigFactory.create(application=cast.application)


def text_of(cast: Cast, query: str = "", who: str = "owner", **headers: str) -> str:
    response = cast.client(who).get(URL + query, headers=headers)
    assert response.status_code == 200
    return response.content.decode()


def end_users(text: str) -> list[str]:
    return re.findall(r'<th scope="row"><a href="[^"]+">([^<]+)</a>', text)


def connected_one_after_the_other(config: ProviderConfig, count: int) -> list[str]:
    """Make grants and return their end users, newest first; pairs of them were connected at the same instant."""
    now = database_now()
    grants = [
        Grant(
            application=config.application,
            provider_config=config,
            end_user=f"user-{number}",
            account_id=str(number),
            search_text=f"user-{number}",
            status="active",
            connected_at=now - timedelta(minutes=number // 2),
        )
        for number in range(count)
    ]
    Grant.objects.bulk_create(grants)
    return [grant.end_user for grant in Grant.objects.order_by("-connected_at", "-id")]


def link(text: str, rel: str) -> str:
    found = re.search(rf'rel="{rel}" href="([^"]+)"', text)
    return found[1].replace("&amp;", "&") if found else ""


def test_a_row_tells_who_which_account_and_how_it_stands(cast, config):
    GrantFactory.create(
        provider_config=config,
        end_user="user-4711",
        account_name="Jo Doe",
        account_email="jo@acme.example",
        site_names=["acme", "acme-labs"],
    )

    text = text_of(cast)

    for word in (
        "user-4711",
        "Jo Doe",
        "jo@acme.example",
        "acme, acme-labs",
        "Fresh",
        "in 42 min",
        "1 connection",
    ):
        assert word in text


def test_sites_that_were_not_chosen_are_not_listed(cast, config):
    grant = GrantFactory.create(provider_config=config, site_names=["acme", "secret-labs"])
    grant.sites.filter(name="secret-labs").update(is_chosen=False)

    assert "secret-labs" not in text_of(cast)


@pytest.mark.parametrize("query", ["4711", "USER-4711", "jo@acme", "acme-labs", "doe user-4711"])
def test_search_finds_part_of_end_user_account_and_site_in_any_case(cast, config, query):
    GrantFactory.create(
        provider_config=config,
        end_user="user-4711",
        account_name="Jo Doe",
        account_email="jo@acme.example",
        site_names=["acme-labs"],
    )
    GrantFactory.create(
        provider_config=config, end_user="other", account_email="x@elsewhere.example", site_names=["site"]
    )

    assert end_users(text_of(cast, f"?q={query}")) == ["user-4711"]


@pytest.mark.parametrize("query", ["100%", "under_score", "a\\b", "\x00zz", "'; --"])
def test_search_takes_every_character_for_itself(cast, config, query):
    GrantFactory.create(provider_config=config, end_user="user-1000")

    text = cast.client("owner").get(URL, {"q": query}).content.decode()

    assert end_users(text) == []
    assert "No connection matches" in text


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("attention", {"pending", "dead", "failing", "unreadable"}),
        ("working", {"fresh"}),
        ("retrying", {"failing"}),
        ("pending", {"pending"}),
        ("needs_reconnect", {"dead"}),
        ("unreadable", {"unreadable"}),
        ("paused", {"paused"}),
        ("revoked", {"gone"}),
        ("nonsense", {"pending", "dead", "failing", "unreadable", "fresh", "paused", "gone"}),
    ],
)
def test_the_status_filter_follows_the_words_on_the_page(cast, config, status, expected):
    off = ProviderConfigFactory.create(application=cast.application, provider_id="other", is_enabled=False)
    GrantFactory.create(provider_config=config, end_user="fresh")
    GrantFactory.create(provider_config=config, end_user="failing", fail_outcome=Outcome.AMBIGUOUS)
    GrantFactory.create(provider_config=config, end_user="unreadable", fail_outcome="unreadable")
    GrantFactory.create(provider_config=config, end_user="pending", pending=True)
    GrantFactory.create(provider_config=config, end_user="dead", needs_reconnect=True)
    GrantFactory.create(provider_config=config, end_user="gone", revoked=True)
    GrantFactory.create(provider_config=off, end_user="paused")

    assert set(end_users(text_of(cast, f"?status={status}"))) == expected


def test_the_provider_filter_keeps_one_provider(cast, config):
    other = ProviderConfigFactory.create(application=cast.application, provider_id="other")
    GrantFactory.create(provider_config=config, end_user="here")
    GrantFactory.create(provider_config=other, end_user="there")

    assert end_users(text_of(cast, "?provider=other")) == ["there"]
    assert end_users(text_of(cast, "?provider=unknown")) == []


def test_paging_shows_each_connection_once_there_and_back(cast, config, monkeypatch):
    monkeypatch.setattr(browse, "PAGE_SIZE", 10)
    everyone = connected_one_after_the_other(config, 35)

    pages = [text_of(cast)]
    while older := link(pages[-1], "next"):
        pages.append(text_of(cast, older))
    back = [pages[-1]]
    while newer := link(back[-1], "prev"):
        back.append(text_of(cast, newer))

    assert [name for page in pages for name in end_users(page)] == everyone
    assert len(pages) == 4
    assert end_users(back[-1]) == everyone[:10]


def test_paging_is_stable_while_connections_come_in(cast, config, monkeypatch):
    monkeypatch.setattr(browse, "PAGE_SIZE", 10)
    everyone = connected_one_after_the_other(config, 30)
    older = link(text_of(cast), "next")

    GrantFactory.create_batch(15, provider_config=config)

    assert end_users(text_of(cast, older)) == everyone[10:20]


def test_paging_keeps_the_filters(cast, config, monkeypatch):
    monkeypatch.setattr(browse, "PAGE_SIZE", 10)
    connected_one_after_the_other(config, 25)

    older = link(text_of(cast, "?status=working"), "next")

    assert "status=working" in older


@pytest.mark.parametrize("cursor", ["x", "1-", "-1-2", "9" * 40 + "-" + "0" * 32, "%00-%00"])
def test_a_cursor_that_cannot_be_read_counts_as_none(cast, config, cursor):
    GrantFactory.create(provider_config=config, end_user="user-1")

    assert end_users(text_of(cast, f"?older={cursor}")) == ["user-1"]
    assert end_users(text_of(cast, f"?newer={cursor}")) == ["user-1"]


def test_a_large_number_is_not_counted_to_the_end(cast, config, monkeypatch):
    monkeypatch.setattr(browse, "COUNT_LIMIT", 60)
    connected_one_after_the_other(config, 70)

    assert "60+ connections" in text_of(cast)


def test_an_empty_list_and_one_without_a_match_differ(cast):
    assert "Nobody is connected yet" in text_of(cast)
    assert "No connection matches" in text_of(cast, "?q=nobody")


def test_an_empty_list_leads_to_what_comes_next(cast):
    without_provider = text_of(cast)
    ProviderConfigFactory.create(application=cast.application)
    with_provider = text_of(cast)

    assert "Make a connect link" not in without_provider
    assert "/applications/acme-tasks/providers/add/" in without_provider
    assert with_provider.count("Make a connect link") == 1


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.AUDITOR])
def test_who_may_not_connect_is_not_asked_to(cast, role):
    assert "Make a connect link" not in text_of(cast, who=role.value)


def test_htmx_gets_the_table_alone(cast, config):
    GrantFactory.create(provider_config=config, end_user="user-1")

    text = text_of(cast, **{"HX-Request": "true"})

    assert "<html" not in text
    assert end_users(text) == ["user-1"]


def test_the_form_works_without_javascript(cast):
    text = text_of(cast, "?q=jo")

    assert (
        '<form class="toolbar" role="search" method="get" action="/applications/acme-tasks/connections/"'
        in text
    )
    assert '<button class="button" type="submit">Search</button>' in text


def test_what_is_typed_is_escaped(cast):
    text = text_of(cast, "?q=%22%3E%3Cscript%3E")

    assert "<script>" not in text


def test_c8_a_grant_that_cannot_be_decrypted_does_not_break_the_list(cast, config):
    broken = GrantFactory.create(provider_config=config, end_user="broken")
    GrantTokens.objects.filter(grant=broken).update(access_token=b"\x01\x02k1garbage", refresh_token=b"")
    GrantFactory.create(provider_config=config, end_user="whole")

    assert set(end_users(text_of(cast))) == {"broken", "whole"}


def test_a_provider_whose_catalog_file_is_gone_does_not_break_the_list(cast):
    config = ProviderConfigFactory.create(application=cast.application, provider_id="gone-provider")
    GrantFactory.create(provider_config=config, end_user="user-1")

    assert end_users(text_of(cast)) == ["user-1"]


def test_another_applications_connections_are_not_listed(cast, config):
    GrantFactory.create(provider_config__application=cast.strangers_application, end_user="theirs")

    assert end_users(text_of(cast)) == []
    assert end_users(text_of(cast, "?q=theirs")) == []


def test_the_page_is_light(
    cast: Cast, config: ProviderConfig, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    connected_one_after_the_other(config, 120)
    client = cast.client("owner")

    with django_assert_max_num_queries(10):
        response: Any = client.get(URL, {"status": "working", "q": "user"})

    assert len(response.content) < 100_000
    assert len(end_users(response.content.decode())) == 50
