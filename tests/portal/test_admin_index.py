"""The first page of Django admin: what staff look for comes first."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from urllib.parse import parse_qsl

import pytest
from django.contrib.admin import AllValuesFieldListFilter, site
from django.contrib.admin.utils import flatten, label_for_field
from django.contrib.auth.models import Permission
from django.db import connection
from django.http import QueryDict
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from portal.apps import NAMES
from portal.audit import SYSTEM, record
from portal.models import Event, User
from providers.admin import PROBLEM_WORDS
from providers.models import PROBLEMS
from tests.factories import GrantFactory, ProviderConfigFactory

# What programs say, and people on staff need not know.
SHORT = {
    "claimed", "code", "epoch", "flag", "gen", "http", "id", "ip", "kind", "pk", "spent", "uid", "upstream", "uri", "url"
}  # fmt: skip

pytestmark = pytest.mark.django_db


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def staff() -> Client:
    return client_of(User.objects.create_superuser("staff@acme.example", "a password"))


def test_connections_come_first_and_the_rest_by_name(staff: Client) -> None:
    page = staff.get("/admin/").content.decode()

    names = re.findall(r'<a href="/admin/\w+/" class="section"[^>]*>\s*([^<]+?)\s*</a>', page)
    apps = re.findall(r'<a href="/admin/(\w+)/" class="section"', page)
    models = re.findall(r'<a href="/admin/tokens/(\w+)/"', page)
    assert apps[:3] == ["tokens", "portal", "providers"]
    assert apps[3:] == sorted(apps[3:])
    assert models[0] == "grant"
    assert names[3:] == ["Accounts", *NAMES.values()]


def test_one_search_from_the_index_finds_connections(staff: Client) -> None:
    config = ProviderConfigFactory.create()
    GrantFactory.create(provider_config=config, end_user="user-4711")
    GrantFactory.create(provider_config=config, end_user="user-4712")
    action = re.findall(r'role="search" action="([^"]+)"', staff.get("/admin/").content.decode())

    found = staff.get(action[0], {"q": "user-4711"}).content.decode()

    assert "user-4711" in found
    assert "user-4712" not in found


def test_who_may_not_look_at_connections_is_offered_no_search() -> None:
    helper = User.objects.create_user("helper@acme.example", "a password", is_staff=True)
    helper.user_permissions.add(Permission.objects.get(codename="view_application"))

    assert 'role="search"' not in client_of(helper).get("/admin/").content.decode()


def test_times_have_seconds_and_say_whose_they_are(staff: Client) -> None:
    grant = GrantFactory.create(provider_config=ProviderConfigFactory.create())
    grant.refresh_from_db()

    page = staff.get(f"/admin/tokens/grant/{grant.pk}/change/").content.decode()

    assert f"{grant.connected_at:%Y-%m-%d %H:%M:%S} UTC" in page


def test_years_months_and_days_are_offered_without_reading_the_list(staff: Client) -> None:
    User.objects.update(date_joined=timezone.now() - timedelta(days=800))
    event = record(Event.EXPORTED, actor=SYSTEM, subject_name="what is looked for")
    event.refresh_from_db()
    address, at = "/admin/portal/auditevent/", event.at

    with CaptureQueriesContext(connection) as queries:
        for title in (f"{at:%Y}", f"{at:%B %Y}", f"{at:%B} {at.day}"):
            page = staff.get(address).content.decode()
            dates = dict(re.findall(r'<a href="(\?[^"]*at__[^"]+)">([^<]+)</a>', page))
            address = "/admin/portal/auditevent/" + unescape(
                next(link for link in dates if dates[link] == title)
            )
    day = staff.get(address).content.decode()
    month = re.findall(r'<a href="([^"]+)" class="date-back">', day)

    assert "what is looked for" in day
    assert dict(parse_qsl(unescape(month[0])[1:])) == {"at__year": str(at.year), "at__month": str(at.month)}
    assert not [query for query in queries if "DATE_TRUNC" in query["sql"] or "MAX(" in query["sql"]]


def test_columns_and_fields_are_named_in_words():
    for model, its_admin in site._registry.items():
        for name in (*its_admin.list_display, *its_admin.readonly_fields, *flatten(its_admin.fields or ())):
            label = label_for_field(name, model, its_admin)
            assert not SHORT & set(str(label).split()), f"{model._meta.label}: {label}"


def test_filters_are_named_in_words_and_offer_words(staff: Client) -> None:
    ProviderConfigFactory.create()
    request = staff.get("/admin/").wsgi_request
    for model, its_admin in site._registry.items():
        request.GET = QueryDict()
        changes = its_admin.get_changelist_instance(request)
        for place, spec in enumerate(changes.filter_specs):
            # It reads every row, and shows what it finds.
            assert not isinstance(spec, AllValuesFieldListFilter), f"{model._meta.label}: {spec.title}"
            offered = list(spec.choices(changes))
            assert not SHORT & set(str(spec.title).split()), f"{model._meta.label}: {spec.title}"
            for text in map(str, (spec.title, *(choice["display"] for choice in offered))):
                assert not re.search(r"\w[_.:]\w", text), f"{model._meta.label}: {text}"
            request.GET = QueryDict(offered[-1]["query_string"].removeprefix("?"))
            chosen = its_admin.get_changelist_instance(request)
            choices = list(chosen.filter_specs[place].choices(chosen))
            assert [choice["selected"] for choice in choices] == [choice is choices[-1] for choice in choices]
    assert {*PROBLEM_WORDS} == {*PROBLEMS}
