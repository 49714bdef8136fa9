"""Making connect links on the portal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from portal.models import AuditEvent, Event
from tests.factories import GrantFactory, ProviderConfigFactory
from tokens.connect import find_session
from tokens.models import Confirmation, ConnectSession

if TYPE_CHECKING:
    from django.test import Client

    from providers.models import ProviderConfig
    from tests.conftest import Cast

pytestmark = pytest.mark.django_db

URL = "/applications/acme-tasks/connections/new/"
TEST_URL = "/applications/acme-tasks/providers/atlassian/connect/"


@pytest.fixture
def config(cast: Cast) -> ProviderConfig:
    return ProviderConfigFactory.create(application=cast.application)


@pytest.fixture
def owner(cast: Cast) -> Client:
    return cast.client("owner")


def token_in(text: str) -> str:
    found = re.search(r"<code>http://testserver/connect/([\w-]+)/</code>", text)
    assert found
    return found[1]


def test_the_link_is_shown_once_and_waits_for_a_confirmation(cast, owner, config):
    response = owner.post(
        URL, {"provider": "atlassian", "end_user": " user-4711 ", "label": "Jo", "return_url": ""}
    )

    text = response.content.decode()
    session = find_session(token_in(text))
    assert session is not None
    assert (session.end_user, session.label, session.confirmation) == ("user-4711", "Jo", Confirmation.MEMBER)
    assert session.created_by == cast.owner
    assert "it is shown only once" in text
    assert "good for 24 hours" in text
    assert "waits until you or another member has confirmed" in text
    assert AuditEvent.objects.get(event=Event.CONNECT_LINK_CREATED).actor_name == "owner@acme.example"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"end_user": ""}, "Say whose connection it will be."),
        ({"end_user": "x" * 201}, "at most 200"),
        ({"end_user": "a\u202eb"}, "1 to 200 printable characters"),
        ({"end_user": "member:5"}, "kept for test connections"),
        ({"return_url": "https://evil.example/"}, "not on one of this application"),
        ({"return_url": "//evil.example"}, "not on one of this application"),
        ({"provider": "unknown"}, "Select a valid choice"),
    ],
)
def test_wrong_input_gets_a_sentence_and_nothing_typed_is_lost(cast, owner, config, fields, sentence):
    data = {"provider": "atlassian", "end_user": "user-1", "label": "Typed", "return_url": "", **fields}

    response = owner.post(URL, data)

    text = response.content.decode()
    assert response.status_code == 422
    assert sentence in text
    assert 'value="Typed"' in text
    assert not ConnectSession.objects.exists()


def test_a_return_url_on_an_allowed_origin_is_kept(cast, owner, config):
    cast.application.return_origins = ["https://app.example.com"]
    cast.application.save()

    owner.post(
        URL, {"provider": "atlassian", "end_user": "u", "return_url": "https://app.example.com/back?x=1"}
    )

    assert ConnectSession.objects.get().return_url == "https://app.example.com/back?x=1"


def test_only_providers_that_work_can_be_chosen(cast, owner, config):
    ProviderConfigFactory.create(application=cast.application, provider_id="gone-provider")
    config.is_enabled = False
    config.save()

    text = owner.get(URL).content.decode()

    assert "There is no provider to connect" in text
    assert owner.post(URL, {"provider": "atlassian", "end_user": "u"}).status_code in (200, 422)
    assert not ConnectSession.objects.exists()


def test_an_archived_application_makes_no_links(cast, owner, config):
    from django.utils import timezone

    type(cast.application).objects.filter(pk=cast.application.pk).update(archived_at=timezone.now())

    assert "There is no provider to connect" in owner.get(URL).content.decode()
    assert "switched off" in owner.post(TEST_URL, follow=True).content.decode()


def test_a_reconnect_link_is_made_for_the_same_end_user_and_connection(cast, config):
    grant = GrantFactory.create(provider_config=config, needs_reconnect=True, end_user="user-4711")

    response = cast.client("support").post(f"{grant.get_absolute_url()}reconnect/")

    text = response.content.decode()
    session = find_session(token_in(text))
    assert session is not None
    assert (session.reconnect_grant, session.end_user) == (grant, "user-4711")
    assert "it repairs this connection in place" in text


def test_a_reconnect_link_of_ones_own_test_is_bound_to_the_login(cast, owner, config):
    grant = GrantFactory.create(provider_config=config, end_user=f"member:{cast.owner.pk}")

    owner.post(f"{grant.get_absolute_url()}reconnect/")

    assert ConnectSession.objects.get().confirmation == Confirmation.LOGIN


def test_a_revoked_connection_is_not_reconnected(cast, owner, config):
    grant = GrantFactory.create(provider_config=config, revoked=True)

    response = owner.post(f"{grant.get_absolute_url()}reconnect/", follow=True)

    assert "Make a new connect link instead." in response.content.decode()
    assert not ConnectSession.objects.exists()


def test_without_a_catalog_file_there_is_no_reconnect_link(cast, owner):
    config = ProviderConfigFactory.create(application=cast.application, provider_id="gone-provider")
    grant = GrantFactory.create(provider_config=config)

    response = owner.post(f"{grant.get_absolute_url()}reconnect/", follow=True)

    assert "no longer in the catalog" in response.content.decode()


def test_a_test_connection_is_bound_to_the_member_who_starts_it(cast, owner, config):
    response = owner.post(TEST_URL)

    session = ConnectSession.objects.get()
    assert response.status_code == 302
    assert urlsplit(response["Location"]).path.startswith("/connect/")
    assert (session.confirmation, session.created_by) == (Confirmation.LOGIN, cast.owner)
    assert session.end_user == f"member:{cast.owner.pk}"


def test_testing_a_disabled_provider_is_a_sentence(cast, owner, config):
    config.is_enabled = False
    config.save()

    response = owner.post(TEST_URL, follow=True)

    assert "switched off" in response.content.decode()


def test_a_provider_of_another_application_is_not_there(cast, owner):
    ProviderConfigFactory.create(application=cast.strangers_application)

    assert owner.post(TEST_URL).status_code == 404


@pytest.mark.parametrize(("who", "status"), [("support", 403), ("auditor", 403), ("stranger", 404)])
def test_whose_role_is_too_small_makes_no_link(cast, config, who, status):
    client = cast.client(who)

    assert client.get(URL).status_code == status
    assert client.post(URL, {"provider": "atlassian", "end_user": "u"}).status_code == status
    assert client.post(TEST_URL).status_code == status
    assert not ConnectSession.objects.exists()
