"""The pages of OAuth providers: they work, keep strangers and small roles out, and never show a secret."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.urls import reverse

from portal.audit import SYSTEM
from portal.models import AuditEvent, Event
from providers import remove as removal
from providers.configure import disable
from providers.models import ProviderConfig
from tests.factories import CANARY, CLIENT_SECRET, PASSWORD, GrantFactory, ProviderConfigFactory
from tokens.models import Grant, GrantTokens

if TYPE_CHECKING:
    from django.http import HttpResponse
    from django.test import Client

    from providers.spec import ProviderSpec
    from tests.conftest import Cast

CLIENT_ID = "kR7v2QmXp0bT4yNc9LsWd3Ha8ZfJ6uGe"
NEW_SECRET = f"ATOA{CANARY}-new-secret"

pytestmark = pytest.mark.django_db


def _url(name: str, *, slug: str = "acme-tasks", provider_id: str = "atlassian") -> str:
    takes_provider = name not in ("provider-list", "provider-gallery")
    return reverse(name, args=[slug, provider_id] if takes_provider else [slug])


def _fields(**fields: Any) -> dict[str, Any]:
    return {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "scopes": ["read:jira-work"], **fields}


def _text(response: HttpResponse) -> str:
    """Return what a page says, tags and line breaks taken out."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def prove(client: Client) -> None:
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})


@pytest.fixture
def config(cast: Cast) -> ProviderConfig:
    """Add Atlassian to the cast's application."""
    return ProviderConfigFactory(application=cast.application, secret_set_by=cast.owner)


def _events() -> list[str]:
    return list(AuditEvent.objects.order_by("id").values_list("event", flat=True))


# --- Who may --------------------------------------------------------------------------------------------------------

VIEWS = {
    "provider-list": ("get", {"owner", "admin", "support", "auditor"}),
    "provider-gallery": ("get", {"owner", "admin"}),
    "provider-detail": ("get", {"owner", "admin", "support", "auditor"}),
    "provider-disable": ("get", {"owner", "admin"}),
}
CHANGES = ["provider-add", "provider-detail", "provider-enable", "provider-disable", "provider-delete"]


@pytest.mark.parametrize("who", ["owner", "admin", "support", "auditor", "stranger", "anonymous"])
@pytest.mark.parametrize("name", VIEWS)
def test_a_page_is_for_those_whose_role_allows_it(name: str, who: str, cast: Cast, config: ProviderConfig):
    response = cast.client(who).get(_url(name))

    allowed = VIEWS[name][1]
    expected = 302 if who == "anonymous" else 404 if who == "stranger" else 200 if who in allowed else 403
    assert response.status_code == expected


@pytest.mark.parametrize("who", ["support", "auditor", "stranger", "anonymous"])
@pytest.mark.parametrize("name", CHANGES)
def test_nobody_else_can_change_anything(name: str, who: str, cast: Cast, config: ProviderConfig):
    before = ProviderConfig.objects.values().get()

    response = cast.client(who).post(_url(name), _fields(client_id="x" * 32))

    assert response.status_code == {"anonymous": 302, "stranger": 404}.get(who, 403)
    assert ProviderConfig.objects.values().get() == before
    assert _events() == []


@pytest.mark.parametrize(
    "name", ["provider-detail", "provider-enable", "provider-disable", "provider-delete"]
)
def test_a_provider_that_is_not_added_is_not_found(name: str, cast: Cast):
    ProviderConfigFactory(application=cast.strangers_application)

    assert cast.client("owner").post(_url(name)).status_code == 404


def test_a_provider_that_is_not_in_the_catalog_cannot_be_added(cast: Cast):
    assert cast.client("owner").get(_url("provider-add", provider_id="nope")).status_code == 404


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("provider-list", "post"),
        ("provider-gallery", "post"),
        ("provider-add", "delete"),
        ("provider-detail", "put"),
        ("provider-enable", "get"),
        ("provider-disable", "put"),
        ("provider-delete", "delete"),
    ],
)
def test_another_method_is_refused(name: str, method: str, cast: Cast, config: ProviderConfig):
    assert getattr(cast.client("owner"), method)(_url(name)).status_code == 405


@pytest.mark.parametrize("name", [*VIEWS, "provider-add", "provider-delete"])
def test_a_page_takes_few_queries_and_is_small(name: str, cast: Cast, django_assert_max_num_queries: Any):
    if name != "provider-add":
        config = ProviderConfigFactory(application=cast.application)
        for _ in range(5):
            GrantFactory(provider_config=config)
    client = cast.client("owner")
    prove(client)

    with django_assert_max_num_queries(10):
        response = client.get(_url(name))

    assert response.status_code == 200
    assert len(response.content) < 100_000


def test_no_page_holds_inline_script_or_style(cast: Cast, config: ProviderConfig):
    client = cast.client("owner")

    for name in VIEWS:
        page = client.get(_url(name)).content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", page), name


# --- List and gallery -----------------------------------------------------------------------------------------------


def test_an_empty_list_leads_to_adding_a_provider(cast: Cast):
    page = cast.client("owner").get(_url("provider-list"))

    assert "No provider yet" in _text(page)
    assert _url("provider-gallery") in page.content.decode()


def test_an_empty_list_leads_those_who_may_only_look_nowhere(cast: Cast):
    page = cast.client("auditor").get(_url("provider-list"))

    assert "An owner or admin of this application can add one." in _text(page)
    assert _url("provider-gallery") not in page.content.decode()


def test_the_list_tells_status_and_number_of_connections(cast: Cast, config: ProviderConfig):
    GrantFactory.create_batch(2, provider_config=config)
    GrantFactory(provider_config=config, needs_reconnect=True)
    GrantFactory(provider_config=config, revoked=True)

    text = _text(cast.client("support").get(_url("provider-list")))

    assert re.search(r"Atlassian\s+Active\s+3\s+4\s+set", text)


def test_the_list_does_not_show_other_applications_providers(cast: Cast):
    ProviderConfigFactory(application=cast.strangers_application)

    assert "No provider yet" in _text(cast.client("owner").get(_url("provider-list")))


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", {"atlassian", "plain"}),
        ("q=jira", {"atlassian"}),
        ("q=JIRA+wiki", {"atlassian"}),
        ("q=jira+files", set()),
        ("q=plain", {"plain"}),
        ("category=Developer+Tools", {"atlassian"}),
        ("category=Files&q=jira", set()),
    ],
)
def test_the_gallery_is_searched_by_words_and_category(
    query: str, shown: set[str], cast: Cast, plain: ProviderSpec
):
    page = cast.client("owner").get(f"{_url('provider-gallery')}?{query}").content.decode()

    assert {
        name for name in ("atlassian", "plain") if _url("provider-add", provider_id=name) in page
    } == shown
    assert ('data-filter-none="gallery" hidden' in page) == bool(shown)


def test_the_gallery_marks_what_is_added_and_leads_to_its_page(cast: Cast, config: ProviderConfig):
    page = cast.client("owner").get(_url("provider-gallery")).content.decode()

    assert "Already added" in page
    assert f'href="{_url("provider-detail")}"' in page
    assert f'href="{_url("provider-add")}"' not in page


# --- Add ------------------------------------------------------------------------------------------------------------


def test_the_page_shows_the_documented_facts_steps_and_redirect_uri_before_anything_is_saved(
    cast: Cast, settings: Any
):
    settings.PUBLIC_URL = "https://portal.acme.example"

    page = cast.client("owner").get(_url("provider-add"), headers={"X-Forwarded-Host": "evil.example"})

    text = _text(page)
    for words in [
        "Provider ID atlassian",
        "Category Developer Tools",
        "PKCE Supported",
        "Token refresh Automatic",
    ]:
        assert words in text
    assert page.content.decode().count("https://portal.acme.example/oauth/callback/acme-tasks/atlassian") >= 4
    assert "evil.example" not in text
    for step in [
        "OAuth 2.0 integration",
        "Callback URL",
        "Permissions",
        "Sharing",
    ]:
        assert step in text
    assert "1 · Enter credentials" in text
    assert "2 · Select scopes" in text
    assert "Common 2 of 2" in text
    assert "Jira 1 of 3" in text
    assert "Confluence 0 of 3" in text
    assert "Scopes chosen: 3" in text


def test_required_scopes_are_ticked_and_locked(cast: Cast):
    page = cast.client("owner").get(_url("provider-add")).content.decode()

    for scope in ("read:me", "offline_access"):
        tick = re.search(rf'<input type="checkbox"[^>]*value="{scope}"[^>]*>', page)
        assert tick
        assert "checked" in tick[0]
        assert "disabled" in tick[0]


def test_saving_adds_the_provider_and_says_so(cast: Cast):
    client = cast.client("admin")

    response = client.post(
        _url("provider-add"), _fields(scopes=["write:jira-work", "read:jira-work"]), follow=True
    )

    assert response.redirect_chain == [(_url("provider-detail"), 302)]
    assert "The provider is now active." in _text(response)
    config = ProviderConfig.objects.get()
    assert config.application == cast.application
    assert config.scopes == ["read:me", "offline_access", "read:jira-work", "write:jira-work"]
    assert config.credentials().client_secret == CLIENT_SECRET
    assert (config.secret_set_by, config.created_by) == (cast.admin, cast.admin)
    event = AuditEvent.objects.get()
    assert (event.event, event.actor_name) == (Event.PROVIDER_ADDED, "admin@acme.example")
    assert event.detail == {"client_id": CLIENT_ID, "scopes": config.scopes}


def test_nothing_typed_is_lost_but_the_secret(cast: Cast):
    typed = _fields(client_id="has space", scopes=["read:jira-user", "search:confluence"])

    response = cast.client("owner").post(_url("provider-add"), typed)

    page = response.content.decode()
    assert response.status_code == 200
    assert 'value="has space"' in page
    ticked = set(re.findall(r'value="([^"]+)" checked', page))
    assert ticked == {"read:me", "offline_access", "read:jira-user", "search:confluence"}
    assert CANARY not in page
    assert "space or line break inside" in _text(response)
    assert ProviderConfig.objects.count() == 0


def test_a_second_atlassian_leads_to_the_first(cast: Cast, config: ProviderConfig):
    response = cast.client("owner").get(_url("provider-add"), follow=True)

    assert response.redirect_chain == [(_url("provider-detail"), 302)]
    assert "Atlassian is already added to Acme Tasks." in _text(response)


def test_a_second_atlassian_that_was_filled_in_meanwhile_is_refused_with_a_sentence(
    cast: Cast, config: ProviderConfig
):
    response = cast.client("owner").post(_url("provider-add"), _fields())

    assert response.status_code == 200
    assert "Acme Tasks has Atlassian already" in _text(response)
    assert ProviderConfig.objects.get().pk == config.pk
    assert _events() == []


@pytest.mark.django_db(transaction=True)
def test_two_tabs_that_save_at_once_add_one_provider(cast: Cast):
    clients = [cast.client("owner"), cast.client("admin")]
    barrier, pages = threading.Barrier(2), []

    def save(client: Client) -> None:
        barrier.wait()
        try:
            pages.append(client.post(_url("provider-add"), _fields()))
        finally:
            connection.close()

    threads = [threading.Thread(target=save, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(page.status_code for page in pages) == [200, 302]
    assert ProviderConfig.objects.count() == 1
    assert _events() == [Event.PROVIDER_ADDED]


# --- Change ---------------------------------------------------------------------------------------------------------


def test_the_page_of_a_provider_tells_who_set_the_secret_and_never_what_it_is(
    cast: Cast, config: ProviderConfig
):
    for who in ("owner", "support"):
        page = cast.client(who).get(_url("provider-detail"))

        assert CANARY not in page.content.decode()
        assert re.search(r"Set just now by Owner|Set just now by owner@acme.example", _text(page))


def test_saving_without_a_secret_keeps_the_old_one(cast: Cast, config: ProviderConfig):
    fields = _fields(client_id=config.client_id, client_secret="", scopes=["read:jira-user"])

    response = cast.client("admin").post(_url("provider-detail"), fields, follow=True)

    assert "Saved." in _text(response)
    config.refresh_from_db()
    assert config.scopes == ["read:me", "offline_access", "read:jira-user"]
    assert config.credentials().client_secret == CLIENT_SECRET
    assert config.secret_set_by == cast.owner
    event = AuditEvent.objects.get()
    assert event.event == Event.PROVIDER_CHANGED
    assert event.detail == {"fields": ["scopes"], "scopes_added": [], "scopes_removed": ["read:jira-work"]}


def test_saving_nothing_new_changes_nothing(cast: Cast, config: ProviderConfig):
    fields = _fields(client_id=config.client_id, client_secret="", scopes=config.scopes)

    response = cast.client("owner").post(_url("provider-detail"), fields, follow=True)

    assert "Nothing was changed." in _text(response)
    assert _events() == []


def test_a_new_secret_replaces_the_old_one_and_clears_the_problem(cast: Cast, config: ProviderConfig):
    config.note_problem("client_refused")
    client = cast.client("admin")
    assert "It does not work just now." in _text(client.get(_url("provider-detail")))

    fields = _fields(client_id=config.client_id, client_secret=NEW_SECRET, scopes=config.scopes)
    response = client.post(_url("provider-detail"), fields, follow=True)

    config.refresh_from_db()
    assert config.credentials().client_secret == NEW_SECRET
    assert (config.problem_code, config.problem_message, config.problem_since) == ("", "", None)
    assert config.secret_set_by == cast.admin
    assert "The new client secret is used from now on." in _text(response)
    assert _events()[-1] == Event.PROVIDER_SECRET_REPLACED
    assert CANARY not in str(list(AuditEvent.objects.values()))


def test_a_sealed_secret_is_sealed_anew_for_each_replacement(cast: Cast, config: ProviderConfig):
    before = bytes(config.client_secret)

    cast.client("owner").post(
        _url("provider-detail"), _fields(client_id=config.client_id, scopes=config.scopes)
    )

    config.refresh_from_db()
    assert bytes(config.client_secret) != before
    assert config.credentials().client_secret == CLIENT_SECRET


def test_new_scopes_say_how_many_must_connect_again(cast: Cast, config: ProviderConfig):
    wide = [*config.scopes, "write:jira-work"]
    GrantFactory.create_batch(2, provider_config=config)
    GrantFactory(provider_config=config, granted_scopes=wide)
    # Atlassian does not promise to name offline_access in its answers.
    GrantFactory(provider_config=config, granted_scopes=[name for name in wide if name != "offline_access"])
    GrantFactory(provider_config=config, revoked=True)
    client = cast.client("owner")

    fields = _fields(client_id=config.client_id, client_secret="", scopes=wide)
    response = client.post(_url("provider-detail"), fields, follow=True)

    text = _text(response)
    assert "2 connections have fewer scopes than this: those people must connect again" in text
    assert "2 of 4 connections have fewer scopes than this." in text


def test_another_client_id_with_connections_is_saved_only_by_those_who_are_sure(
    cast: Cast, config: ProviderConfig
):
    GrantFactory(provider_config=config)
    client, fields = cast.client("owner"), _fields(client_secret=NEW_SECRET)

    doubted = client.post(_url("provider-detail"), fields)
    saved = client.post(_url("provider-detail"), {**fields, "is_sure": "on"})

    assert "1 connection was made with the present client ID." in _text(doubted)
    assert CANARY not in doubted.content.decode()
    assert saved.status_code == 302
    config.refresh_from_db()
    assert config.client_id == CLIENT_ID
    assert AuditEvent.objects.filter(event=Event.PROVIDER_CHANGED).get().detail["fields"] == [
        "client_id",
        "scopes",
    ]


def test_saving_a_provider_that_was_deleted_meanwhile_is_not_found(cast: Cast, config: ProviderConfig):
    config.delete()

    assert cast.client("owner").post(_url("provider-detail"), _fields()).status_code == 404


def test_a_provider_whose_file_is_gone_can_be_seen_and_deleted(cast: Cast):
    ProviderConfigFactory(application=cast.application, provider_id="gone")
    client = cast.client("owner")

    page = client.get(_url("provider-detail", provider_id="gone"))

    assert "Its catalog file is gone." in _text(page)
    assert "Not in the catalog" in _text(client.get(_url("provider-list")))
    assert client.get(_url("provider-disable", provider_id="gone")).status_code == 200
    prove(client)
    assert client.get(_url("provider-delete", provider_id="gone")).status_code == 200
    assert client.post(_url("provider-delete", provider_id="gone")).status_code == 302
    assert ProviderConfig.objects.count() == 0


def test_a_secret_that_cannot_be_decrypted_can_be_replaced(cast: Cast, config: ProviderConfig):
    ProviderConfig.objects.filter(pk=config.pk).update(client_secret=b"\x01damaged")
    client = cast.client("owner")

    assert client.get(_url("provider-detail")).status_code == 200
    client.post(
        _url("provider-detail"),
        _fields(client_id=config.client_id, client_secret=NEW_SECRET, scopes=config.scopes),
    )

    config.refresh_from_db()
    assert config.credentials().client_secret == NEW_SECRET


# --- Disable, enable, delete ----------------------------------------------------------------------------------------


def test_disabling_asks_first_says_what_it_means_and_keeps_connections(cast: Cast, config: ProviderConfig):
    GrantFactory(provider_config=config)
    client = cast.client("owner")

    asked = _text(client.get(_url("provider-disable")))
    done = client.post(_url("provider-disable"), follow=True)

    assert "1 connection stays" in asked.replace("  ", " ")
    assert "no token is handed out" in asked
    assert "Disabled" in _text(done)
    config.refresh_from_db()
    assert not config.is_enabled
    assert GrantTokens.objects.count() == 1
    assert _events() == [Event.PROVIDER_DISABLED]


def test_enabling_brings_it_back(cast: Cast, config: ProviderConfig):
    disable(config, actor=SYSTEM)

    response = cast.client("admin").post(_url("provider-enable"), follow=True)

    assert "Atlassian is enabled." in _text(response)
    config.refresh_from_db()
    assert config.is_enabled
    assert _events() == [Event.PROVIDER_DISABLED, Event.PROVIDER_ENABLED]


def test_switching_twice_is_recorded_once(cast: Cast, config: ProviderConfig):
    client = cast.client("owner")

    for _ in range(2):
        client.post(_url("provider-disable"))

    assert _events() == [Event.PROVIDER_DISABLED]


def test_deleting_says_how_many_connections_go_and_takes_them(
    cast: Cast, config: ProviderConfig, monkeypatch: pytest.MonkeyPatch
):
    GrantFactory.create_batch(2, provider_config=config)
    GrantFactory(provider_config=config, revoked=True)
    seen = []

    def take_back(taken: ProviderConfig, actor: Any) -> None:
        seen.append((taken.pk, taken.is_enabled, actor.name, Grant.objects.count()))

    monkeypatch.setattr(removal, "before_delete", [take_back, *removal.before_delete])
    client = cast.client("owner")

    stopped = client.post(_url("provider-delete"))
    prove(client)
    asked = _text(client.get(_url("provider-delete")))
    done = client.post(_url("provider-delete"), follow=True)

    # A browser that was left alone deletes nothing (G10).
    assert stopped["Location"].startswith(reverse("account_reauthenticate"))
    assert "2 connections of Acme Tasks go with it." in asked
    assert "all tokens are erased" in asked
    assert "Atlassian offers no way for us to end access on its side." in asked
    assert "2 connections went with it." in _text(done)
    # Nothing new may come in while tokens are taken back, and all are still there to be taken.
    assert seen == [(config.pk, False, "owner@acme.example", 3)]
    assert (ProviderConfig.objects.count(), Grant.objects.count(), GrantTokens.objects.count()) == (0, 0, 0)
    event = AuditEvent.objects.get(event=Event.PROVIDER_DELETED)
    assert event.detail == {"connections": 2}
    assert event.subject_name == "Atlassian for Acme Tasks"


def test_a_deletion_stops_when_taking_back_fails(
    cast: Cast, config: ProviderConfig, monkeypatch: pytest.MonkeyPatch
):
    def fail(taken: ProviderConfig, actor: Any) -> None:
        raise RuntimeError("the provider is on fire")

    monkeypatch.setattr(removal, "before_delete", [fail])

    with pytest.raises(RuntimeError):
        removal.remove(config, actor=SYSTEM)

    assert ProviderConfig.objects.count() == 1
    assert Event.PROVIDER_DELETED not in _events()


def test_after_deleting_it_can_be_added_again(cast: Cast, config: ProviderConfig):
    client = cast.client("owner")
    prove(client)
    client.post(_url("provider-delete"))

    response = client.post(_url("provider-add"), _fields())

    assert response.status_code == 302
    assert ProviderConfig.objects.get().pk != config.pk
