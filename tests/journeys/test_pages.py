"""What screen readers say of pages: titles that tell them apart, and tables with names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from django.conf import settings
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

from portal import api_keys
from portal.audit import SYSTEM
from portal.models import Membership, WebhookMessage, WebhookType
from portal.outbox import body_of
from tests.factories import PASSWORD, GrantFactory, ProviderConfigFactory, database_now
from tokens.webhooks import endpoints

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.conftest import Cast

pytestmark = pytest.mark.django_db

TABLE = re.compile(r"<table(?P<attributes>[^>]*)>\s*(?P<caption><caption)?")


def names_below(patterns: Iterable[URLPattern | URLResolver], prefix: str) -> Iterator[str]:
    """Yield the names of addresses that begin so."""
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            if not str(pattern.pattern):
                yield from names_below(pattern.url_patterns, prefix)
        elif str(pattern.pattern).startswith(prefix):
            yield str(pattern.name)


@pytest.fixture
def pages(cast: Cast) -> dict[str, str]:
    """Make one of everything, all of the same name, and return the pages of the application by their addresses' names."""
    application = cast.application
    now = database_now()
    config = ProviderConfigFactory.create(application=application)
    key, _ = api_keys.create(application, name="production", permissions=["connect"], actor=SYSTEM)
    endpoint, _ = endpoints.create(
        application,
        name="production",
        url="https://app.example.com/hook",
        types=WebhookType.values,
        actor=SYSTEM,
    )
    message = WebhookMessage.objects.create(
        endpoint=endpoint,
        type="grant.revoked",
        body=body_of("grant.revoked", {}, at=now),
        next_attempt_at=now,
    )
    ids = {
        "api-key": key.pk,
        "webhook": endpoint.pk,
        "member": Membership.objects.get(application=application, user=cast.admin).pk,
        "grant": GrantFactory.create(provider_config=config, end_user="production").pk,
    }
    client = cast.client("owner")
    # Some pages ask first.
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    found = {}
    for name in names_below(get_resolver().url_patterns, "applications/<slug:slug>/"):
        for values in (
            {},
            {"provider_id": "atlassian"},
            {"pk": ids.get(name.rpartition("-")[0], 0)},
            {"uid": message.uid},
        ):
            try:
                address = reverse(name, kwargs={"slug": application.slug, **values})
            except NoReverseMatch:
                continue
            response = client.get(address)
            if response.status_code == 200 and response["Content-Type"].startswith("text/html"):
                found[name] = response.content.decode()
    return found


def test_no_two_pages_have_the_same_title(pages: dict[str, str]) -> None:
    titles = {name: re.findall("<title>(.*?)</title>", page) for name, page in pages.items()}
    by_title: dict[str, list[str]] = {}
    for name, (title,) in titles.items():
        by_title.setdefault(title, []).append(name)

    assert len(pages) > 32
    assert [names for names in by_title.values() if len(names) > 1] == []
    assert [title for title in by_title if not title.endswith(" · Acme Tasks")] == []


def test_every_page_has_one_main_heading(pages: dict[str, str]) -> None:
    assert [name for name, page in pages.items() if page.count("<h1") != 1] == []


def test_a_page_with_an_error_says_so_in_its_title(cast: Cast) -> None:
    page = cast.client("owner").post(reverse("api-key-create", args=["acme-tasks"])).content.decode()

    assert "<title>Error: New API key · Acme Tasks</title>" in page


def test_every_table_has_a_name() -> None:
    nameless = [
        str(path.relative_to(settings.BASE_DIR))
        for path in (settings.BASE_DIR / "templates").rglob("*.html")
        for table in TABLE.finditer(path.read_text())
        if "aria-label" not in table["attributes"] and not table["caption"]
    ]

    assert nameless == []
