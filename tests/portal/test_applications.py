"""Applications: listed, made, archived, restored, deleted."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from portal import applications
from portal.models import Application, AuditEvent, Event, Membership, Role
from tests.factories import (
    PASSWORD,
    ApplicationFactory,
    GrantFactory,
    MembershipFactory,
    ProviderConfigFactory,
    UserFactory,
)

pytestmark = pytest.mark.django_db


def test_home_leads_to_the_only_application(cast):
    response = cast.client("owner").get(reverse("home"))

    assert response.status_code == 302
    assert response.url == reverse("application-overview", args=["acme-tasks"])


def test_home_leads_to_the_list_when_there_are_several(cast):
    MembershipFactory(user=cast.owner)

    response = cast.client("owner").get(reverse("home"))

    assert response.url == reverse("application-list")


def test_home_asks_a_visitor_to_sign_in(db):
    response = Client().get(reverse("home"))

    assert response.url.startswith(reverse("account_login"))


def test_the_list_shows_what_one_is_a_member_of_and_nothing_else(cast):
    page = cast.client("support").get(reverse("application-list")).content.decode()

    assert "Acme Tasks" in page
    assert "You are support" in page
    assert "Other Product" not in page


def test_an_empty_list_says_what_to_do(db):
    client = Client()
    client.force_login(UserFactory(), backend="django.contrib.auth.backends.ModelBackend")

    page = client.get(reverse("application-list")).content.decode()

    assert "Make an application" in page


def test_archived_applications_stand_apart(cast):
    applications.archive(cast.application, actor=_actor())

    page = cast.client("owner").get(reverse("application-list")).content.decode()

    assert "<h2>Archived</h2>" in page


def test_a_new_application_belongs_to_whoever_makes_it(cast):
    response = cast.client("support").post(
        reverse("application-create"), {"name": "Acme Käse & Co", "slug": ""}
    )

    application = Application.objects.get(name="Acme Käse & Co")
    assert application.slug == "acme-kase-co"
    assert response.url == application.get_absolute_url()
    membership = Membership.objects.get(application=application)
    assert (membership.user, membership.role) == (cast.support, Role.OWNER)
    event = AuditEvent.objects.get(event=Event.APPLICATION_CREATED)
    assert (event.actor_name, event.application_id) == (cast.support.email, application.pk)


def test_a_taken_short_name_is_refused_with_a_free_one(cast):
    response = cast.client("owner").post(
        reverse("application-create"), {"name": "Mine", "slug": "acme-tasks"}
    )

    page = response.content.decode()
    assert response.status_code == 422
    assert "“acme-tasks” is taken. “acme-tasks-2” is free." in page
    assert 'value="Mine"' in page
    assert 'value="acme-tasks"' in page


@pytest.mark.parametrize("slug", ["new", "Acme", "a b", "-a", "a--b", "a_b", "a\n"])
def test_a_short_name_that_can_not_be_an_address_is_refused(cast, slug):
    response = cast.client("owner").post(reverse("application-create"), {"name": "Mine", "slug": slug})

    if slug == "a\n":  # Spaces around are not an error: they come along when one copies.
        assert response.status_code == 302
    else:
        assert response.status_code == 422
        assert not Application.objects.filter(name="Mine").exists()


def test_a_name_without_letters_still_gets_a_short_name(db):
    assert applications.propose_slug("東京") == "application"
    assert applications.propose_slug("New") == "new-2"


def test_losing_the_race_for_a_short_name_is_said_on_the_form(cast, monkeypatch):
    monkeypatch.setattr("portal.forms.ApplicationForm.clean_slug", lambda form: form.cleaned_data["slug"])

    response = cast.client("owner").post(
        reverse("application-create"), {"name": "Mine", "slug": "acme-tasks"}
    )

    assert response.status_code == 422
    assert "has just been taken" in response.content.decode()


def test_archiving_and_restoring_are_kept_in_the_audit_log(cast):
    client = cast.client("owner")

    client.post(reverse("application-archive", args=["acme-tasks"]))
    client.post(reverse("application-archive", args=["acme-tasks"]))

    cast.application.refresh_from_db()
    assert cast.application.is_archived
    client.post(reverse("application-restore", args=["acme-tasks"]))
    cast.application.refresh_from_db()
    assert not cast.application.is_archived
    events = AuditEvent.objects.filter(application_id=cast.application.pk).values_list("event", flat=True)
    assert list(events) == [Event.APPLICATION_RESTORED, Event.APPLICATION_ARCHIVED]


@pytest.mark.parametrize("name", ["application-archive", "application-restore"])
def test_archiving_by_a_link_is_not_possible(cast, name):
    assert cast.client("owner").get(reverse(name, args=["acme-tasks"])).status_code == 405


@pytest.mark.parametrize("name", ["application-archive", "application-restore", "application-delete"])
def test_only_owners_archive_and_delete(cast, name):
    assert cast.client("admin").post(reverse(name, args=["acme-tasks"])).status_code == 403


def test_deleting_asks_for_the_password_first_g10(cast):
    response = cast.client("owner").get(reverse("application-delete", args=["acme-tasks"]))

    assert response.status_code == 302
    assert response.url.startswith(reverse("account_reauthenticate"))


def test_the_delete_page_says_what_goes(cast):
    config = ProviderConfigFactory(application=cast.application)
    GrantFactory.create_batch(2, provider_config=config)

    page = _reauthenticated(cast).get(reverse("application-delete", args=["acme-tasks"])).content.decode()

    assert "<strong>4</strong> members" in page
    assert "<strong>1</strong> provider with its client secret" in page
    assert "<strong>2</strong> connections" in page


def test_another_name_deletes_nothing(cast):
    response = _reauthenticated(cast).post(
        reverse("application-delete", args=["acme-tasks"]), {"name": "acme tasks"}
    )

    assert response.status_code == 422
    assert "This is not the name" in response.content.decode()
    assert Application.objects.filter(slug="acme-tasks").exists()


def test_the_typed_name_deletes_everything_but_the_audit_log(cast):
    GrantFactory(provider_config=ProviderConfigFactory(application=cast.application))

    response = _reauthenticated(cast).post(
        reverse("application-delete", args=["acme-tasks"]), {"name": "Acme Tasks"}
    )

    assert response.url == reverse("application-list")
    assert not Application.objects.filter(slug="acme-tasks").exists()
    event = AuditEvent.objects.get(event=Event.APPLICATION_DELETED)
    assert event.application_id == cast.application.pk
    assert event.detail["went_with_it"] == {"members": 4, "providers": 1, "connections": 1}


def test_tokens_are_taken_back_before_anything_is_deleted(cast, monkeypatch):
    seen = []
    monkeypatch.setattr(
        applications,
        "before_delete",
        [
            lambda application, actor: seen.append((application.is_archived, actor.name)),
            *applications.before_delete,
        ],
    )

    applications.delete(_fresh(cast.application), actor=_actor())

    assert seen == [(True, "test")]


def test_a_hook_that_fails_stops_the_deletion(cast, monkeypatch):
    def refuse(application, actor):
        raise RuntimeError("upstream is down")

    monkeypatch.setattr(applications, "before_delete", [refuse])

    with pytest.raises(RuntimeError):
        applications.delete(_fresh(cast.application), actor=_actor())

    assert Application.objects.filter(slug="acme-tasks").exists()


@pytest.mark.parametrize("name", ["application-list", "application-create"])
def test_pages_outside_an_application_need_few_queries(cast, name, django_assert_max_num_queries):
    for _ in range(5):
        MembershipFactory(user=cast.owner, application=ApplicationFactory())
    client = cast.client("owner")

    with django_assert_max_num_queries(10):
        client.get(reverse(name))


def _reauthenticated(cast) -> Client:
    client = cast.client("owner")
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    return client


def _fresh(application: Application) -> Application:
    return Application.objects.get(pk=application.pk)


def _actor():
    from portal.audit import Actor
    from portal.models.audit import ActorKind

    return Actor(ActorKind.MEMBER, name="test")
