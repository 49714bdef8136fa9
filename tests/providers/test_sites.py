"""Atlassian's list of sites."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.sites import UnreadableSitesError, read_atlassian_sites


def _site(cloud_id: str = "c1", name: Any = "acme", **fields: Any) -> dict[str, Any]:
    return {
        "id": cloud_id,
        "name": name,
        "url": "https://acme.atlassian.net",
        "scopes": ["read:jira-work"],
    } | fields


def test_jira_and_confluence_of_one_site_are_one_site():
    jira = _site(scopes=["write:jira-work", "read:jira-work"])
    confluence = _site(scopes=["read:confluence-content.all"])

    (site,) = read_atlassian_sites([jira, confluence])

    assert site.products == ("Jira", "Confluence")
    assert site.scopes == ("read:confluence-content.all", "read:jira-work", "write:jira-work")


def test_sites_are_sorted_by_name_because_their_order_means_nothing():
    sites = read_atlassian_sites([_site("2", "Beta"), _site("1", "acme"), _site("3", "acme")])

    assert [site.cloud_id for site in sites] == ["1", "3", "2"]


def test_service_management_is_a_product_of_its_own():
    (site,) = read_atlassian_sites([_site(scopes=["read:servicedesk-request"])])

    assert site.products == ("Jira Service Management",)


def test_no_site_is_no_error():
    assert read_atlassian_sites([]) == ()


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"id": "1"},
        "text",
        [None],
        [[]],
        [{}],
        [{"id": 7}],
        [{"id": ""}],
        [{"id": "a b"}],
        [{"id": "x" * 129}],
    ],
)
def test_another_shape_is_refused(body: object):
    with pytest.raises(UnreadableSitesError):
        read_atlassian_sites(body)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("acme", "acme"),
        ("a\x00b\r\nc\u202e", "abc"),
        ("", "c1"),
        (None, "c1"),
        (7, "c1"),
        ("x" * 300, "x" * 200),
    ],
)
def test_a_name_is_one_printable_line_or_the_id(name: object, shown: str):
    (site,) = read_atlassian_sites([_site(name=name)])

    assert site.name == shown


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "//evil",
        "https://",
        "https://good@evil",
        "https://a\\b",
        "https://a b",
        "http://[",
        7,
        None,
        "https://a/" + "x" * 600,
    ],
)
def test_an_address_that_should_not_be_a_link_is_left_out(url: object):
    (site,) = read_atlassian_sites([_site(url=url)])

    assert site.url == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["id", "name", "url", "scopes"]), inner),
    max_leaves=15,
)


@given(json_values)
def test_whatever_comes_is_read_or_refused(body: object):
    try:
        sites = read_atlassian_sites(body)
    except UnreadableSitesError:
        return

    assert all("\x00" not in f"{site.name}{site.url}{site.cloud_id}{site.scopes}" for site in sites)
