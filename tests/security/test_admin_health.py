"""Health over all applications, for staff."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from portal.models import User
from tests.factories import GrantFactory, ProviderConfigFactory, database_now
from tests.security.admin_world import signed_in
from tokens import latency
from tokens.models import RefreshMinute

pytestmark = pytest.mark.django_db

URL = "/admin/tokens/refreshcount/health/"


def counted(config, outcome, count):
    latencies = [0] * latency.SIZE
    latencies[4] = count
    RefreshMinute.objects.create(
        provider_config=config,
        application=config.application,
        starts_at=database_now(),
        outcome=outcome,
        count=count,
        latencies=latencies,
    )


@pytest.fixture
def many():
    configs = [ProviderConfigFactory.create(application__name=f"Product {number}") for number in range(3)]
    other = ProviderConfigFactory.create(application=configs[0].application, provider_id="gone-provider")
    for number, config in enumerate([*configs, other]):
        counted(config, "ok", 10**number)
        GrantFactory.create(provider_config=config, due=True)
    counted(configs[2], "ambiguous", 7)
    configs[1].note_problem("unreachable")
    return configs


def test_all_applications_are_added_up_by_provider_and_by_application_the_worst_first(superuser, many):
    text = superuser.get(URL).content.decode()

    assert "of 1,121 refreshes" in text
    assert "■ 1 of 4 broken" in text
    assert '<td class="number">121</td>' in text
    assert text.index("Product 1") < text.index("Product 2")
    assert "No usable answer" in text
    assert text.count('role="img"') == 2


def test_one_provider_or_one_application_can_be_chosen(superuser, many):
    provider = superuser.get(URL, {"provider": "gone-provider"}).content.decode()
    application = superuser.get(
        URL, {"application": many[1].application.slug, "span": "week"}
    ).content.decode()
    neither = superuser.get(URL, {"application": "never-heard-of"}).content.decode()

    assert "of 1,000 refreshes" in provider
    assert "Product 1" not in provider
    assert "of 10 refreshes" in application
    assert "Atlassian does not answer" in application
    assert "by four hours" in application
    assert "No provider has been added yet." in neither


def test_the_index_leads_there(superuser):
    assert f'href="{URL}"' in superuser.get("/admin/").content.decode()


def test_g4_staff_need_the_permission_to_view_counts_and_connections(world):
    staff = User.objects.create_user("support@acme.example", "a password", is_staff=True)
    client = signed_in(staff)
    seen = []
    for codename in ("view_application", "view_refreshcount", "view_grant"):
        staff.user_permissions.add(Permission.objects.get(codename=codename))
        seen.append((client.get(URL).status_code, URL in client.get("/admin/").content.decode()))

    assert seen == [(403, False), (403, False), (200, True)]
    assert client.post(URL).status_code == 405


def test_the_page_costs_the_same_however_many_applications_there_are(
    superuser, many, django_assert_max_num_queries
):
    with django_assert_max_num_queries(7):
        assert superuser.get(URL).status_code == 200
    assert reverse("admin:tokens_health") == URL
