"""What staff do in Django admin: asked first, audited as staff, exports neutralised (G9), pages light."""

from __future__ import annotations

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.urls import reverse

from portal.audit import SYSTEM, Actor, record
from portal.invitations import invite
from portal.models import AuditEvent, Event, Membership, Role
from portal.models.audit import ActorKind
from providers.models import ProviderConfig
from tests.factories import (
    CANARY,
    GrantFactory,
    MembershipFactory,
    UserFactory,
)
from tests.security.admin_world import act, signed_in
from tokens.admin_actions import with_last_use
from tokens.models import (
    Grant,
    GrantStatus,
    GrantTokens,
)

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("action", ["refresh", "revoke", "export"])
def test_an_action_asks_first(superuser, world, action):
    before = AuditEvent.objects.count()

    answer = act(superuser, "tokens_grant", action, [world["grant"]], confirmed=False)

    page = answer.content.decode()
    assert "user-4711" in page
    assert "No, go back" in page
    assert AuditEvent.objects.count() == before
    assert Grant.objects.get(pk=world["grant"].pk).status == GrantStatus.ACTIVE


def test_revoking_erases_the_tokens_and_is_audited_as_staff(superuser, world):
    act(superuser, "tokens_grant", "revoke", [world["grant"]])

    event = AuditEvent.objects.get(event=Event.GRANT_REVOKED)
    assert (event.actor_kind, event.actor_name) == ("staff", "staff@acme.example")
    assert not GrantTokens.objects.filter(grant=world["grant"]).exists()


@pytest.mark.parametrize(
    ("action", "is_asked_again"), [("revoke", True), ("export", True), ("refresh", False)]
)
def test_g10_who_signed_in_a_while_ago_proves_it_again_before_a_sensitive_action(
    world, action, is_asked_again
):
    staff = signed_in(world["superuser"], minutes_ago=20)

    answer = act(staff, "tokens_grant", action, [world["grant"]])

    assert answer.url.startswith(reverse("account_reauthenticate")) == is_asked_again
    assert Grant.objects.get(pk=world["grant"].pk).status == GrantStatus.ACTIVE


def test_g10_the_password_once_more_opens_the_way_back_to_the_list(world):
    staff = signed_in(world["superuser"], minutes_ago=20)
    question = act(staff, "tokens_grant", "revoke", [world["grant"]]).url

    answer = staff.post(question, {"password": f"password {CANARY}"})
    act(staff, "tokens_grant", "revoke", [world["grant"]])

    assert answer.url == reverse("admin:tokens_grant_changelist")
    assert Grant.objects.get(pk=world["grant"].pk).status == GrantStatus.REVOKED


def test_g10_staff_let_refused_connections_end_after_the_question_and_the_password(world):
    config = world["config"]
    config.note_problem("many_refused")
    held = ProviderConfig.objects.exclude(problem_code="")

    stopped = act(
        signed_in(world["superuser"], minutes_ago=20), "providers_providerconfig", "let_refused_end", [config]
    )
    staff = signed_in(world["superuser"])
    asked = act(staff, "providers_providerconfig", "let_refused_end", [config], confirmed=False)
    assert held.exists()
    act(staff, "providers_providerconfig", "let_refused_end", [config])
    act(staff, "providers_providerconfig", "let_refused_end", [config])

    assert stopped.url.startswith(reverse("account_reauthenticate"))
    assert "too many of their connections" in asked.content.decode()
    assert not held.exists()
    event = AuditEvent.objects.get(event=Event.PROVIDER_ENDINGS_ALLOWED)
    assert (event.actor_kind, event.application_id) == ("staff", config.application_id)


def test_g4_who_may_only_look_at_providers_is_offered_no_action(world):
    person = UserFactory.create(is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="view_providerconfig"))
    world["config"].note_problem("many_refused")

    act(signed_in(person), "providers_providerconfig", "let_refused_end", [world["config"]])

    assert ProviderConfig.objects.exclude(problem_code="").exists()


def test_no_more_than_a_few_are_revoked_at_once(superuser, world):
    GrantFactory.create_batch(51, provider_config=world["config"])

    answer = act(superuser, "tokens_grant", "revoke", Grant.objects.all())

    assert answer.status_code == 302
    assert not AuditEvent.objects.filter(event=Event.GRANT_REVOKED).exists()


def test_g9_an_export_neutralises_formulas_and_is_in_the_applications_audit_log(superuser, world):
    GrantFactory.create(provider_config=world["config"], end_user='=HYPERLINK("https://evil.example")')

    answer = act(superuser, "tokens_grant", "export", Grant.objects.all())

    text = answer.getvalue().decode()
    assert "'=HYPERLINK" in text
    assert ",=HYPERLINK" not in text
    event = AuditEvent.objects.get(event=Event.EXPORTED)
    assert event.application_id == world["config"].application_id
    assert event.detail == {"connections": 4}


def test_an_export_of_all_that_match_is_not_cut_to_the_page(superuser, world):
    GrantFactory.create_batch(60, provider_config=world["config"])
    some = [Grant.objects.first()]
    data = {
        "action": "export",
        "select_across": "1",
        "confirmed": "yes",
        "_selected_action": [str(one.pk) for one in some if one],
    }

    answer = superuser.post(reverse("admin:tokens_grant_changelist"), data)

    assert len(answer.getvalue().decode().splitlines()) == 64


def test_one_search_answers_who_has_access_to_what_since_when_and_who_used_it(superuser, world):
    record(
        Event.TOKEN_HANDED_OUT,
        actor=SYSTEM,
        application=world["config"].application,
        subject=world["grant"],
    )

    for words in (
        "user-4711",
        "4711 acme",
        "Acme Tasks user-47",
        str(world["grant"].pk),
        world["grant"].account_email,
    ):
        page = superuser.get(reverse("admin:tokens_grant_changelist"), {"q": words}).content.decode()
        row = page[page.index("<tbody>") :]
        for word in ("user-4711", "Acme Tasks", "Atlassian", "acme", "Fresh", "by portal", "read:jira-work"):
            assert word in row
        assert row.count("<tr>") == 1


def test_members_changed_by_staff_are_audited_and_an_owner_stays(superuser, world):
    application, membership = world["config"].application, world["membership"]
    url = reverse("admin:portal_application_change", args=[application.pk])
    form = {
        "memberships-TOTAL_FORMS": "2",
        "memberships-INITIAL_FORMS": "1",
        "memberships-MIN_NUM_FORMS": "0",
        "memberships-MAX_NUM_FORMS": "1000",
        "memberships-0-id": str(membership.pk),
        "memberships-0-application": str(application.pk),
        "memberships-0-role": Role.SUPPORT.value,
        "memberships-1-application": str(application.pk),
        "memberships-1-user": str(world["superuser"].pk),
        "memberships-1-role": Role.OWNER.value,
    }

    refused = superuser.post(url, {**form, "memberships-1-role": Role.ADMIN.value})
    accepted = superuser.post(url, form)

    assert "Every application needs an owner." in refused.content.decode()
    assert accepted.status_code == 302
    assert Membership.objects.get(application=application, role=Role.OWNER).user == world["superuser"]
    events = AuditEvent.objects.filter(actor_kind="staff").values_list("event", "subject_name")
    assert set(events) == {
        (Event.MEMBER_JOINED, "staff@acme.example"),
        (Event.MEMBER_ROLE_CHANGED, "owner@acme.example"),
    }


def test_the_invitations_of_a_member_whom_staff_remove_end(superuser, world):
    application, membership = world["config"].application, world["membership"]
    member = MembershipFactory(application=application, role=Role.ADMIN)
    invite(
        application,
        email="friend@example.com",
        role=Role.ADMIN,
        by=member.user,
        actor=Actor(ActorKind.MEMBER, str(member.user.pk)),
    )
    form = {"memberships-TOTAL_FORMS": "2", "memberships-INITIAL_FORMS": "2"}
    for number, one in enumerate([membership, member]):
        form[f"memberships-{number}-id"] = str(one.pk)
        form[f"memberships-{number}-application"] = str(application.pk)
        form[f"memberships-{number}-role"] = one.role
    form["memberships-1-DELETE"] = "on"

    answer = superuser.post(reverse("admin:portal_application_change", args=[application.pk]), form)

    assert answer.status_code == 302
    assert not application.invitations.filter(email="friend@example.com").exists()
    assert AuditEvent.objects.filter(event=Event.MEMBER_INVITATION_WITHDRAWN, actor_kind="staff").exists()


def test_a_provider_disabled_by_staff_is_audited(superuser, world):
    superuser.post(
        reverse("admin:providers_providerconfig_change", args=[world["config"].pk]), {"_save": "Save"}
    )

    event = AuditEvent.objects.get(event=Event.PROVIDER_DISABLED)
    assert (event.actor_kind, event.application_id) == ("staff", world["config"].application_id)
    assert not ProviderConfig.objects.get(pk=world["config"].pk).is_enabled


def test_deleting_a_session_in_the_admin_signs_its_browser_out(superuser, world):
    session = UserSession.objects.get(session_key=f"{CANARY}-session")

    superuser.post(reverse("admin:usersessions_usersession_delete", args=[session.pk]), {"post": "yes"})

    assert not Session.objects.filter(session_key=f"{CANARY}-session").exists()


def test_who_used_a_connection_last_is_named_also_through_the_proxy(world):
    by_proxy = Actor(ActorKind.API_KEY, name="proxy's key")
    record(Event.PROXY_CALLED, actor=by_proxy, subject=world["grant"])

    grants = with_last_use(Grant.objects.all())

    assert grants.get(pk=world["grant"].pk).last_used_by == "proxy's key"


def test_a_grant_whose_catalog_file_is_gone_breaks_no_page(superuser):
    grant = GrantFactory.create(provider_config__provider_id="gone-provider")

    for address in (
        reverse("admin:tokens_grant_changelist"),
        reverse("admin:tokens_grant_change", args=[grant.pk]),
        reverse("admin:providers_providerconfig_change", args=[grant.provider_config_id]),
    ):
        assert superuser.get(address).status_code == 200
    assert act(superuser, "tokens_grant", "refresh", [grant]).status_code == 302
    assert act(superuser, "tokens_grant", "revoke", [grant]).status_code == 302


def test_the_lists_are_light(superuser, world, django_assert_max_num_queries):
    GrantFactory.create_batch(30, provider_config=world["config"])

    for name in (
        "tokens_grant",
        "portal_auditevent",
        "tokens_refreshattempt",
        "tokens_connectsession",
        "tokens_site",
    ):
        with django_assert_max_num_queries(10):
            superuser.get(reverse(f"admin:{name}_changelist"))
