"""Members: listed, given another role, removed."""

from __future__ import annotations

import threading
from functools import partial

import pytest
from django.db import connection
from django.urls import reverse

from portal import members
from portal.audit import SYSTEM
from portal.models import Application, AuditEvent, Event, Invitation, Membership, Role
from tests.factories import ApplicationFactory, MembershipFactory, UserFactory

pytestmark = pytest.mark.django_db


def test_every_role_sees_the_members(cast):
    for who in Role:
        page = cast.client(who).get(_url("member-list")).content.decode()

        assert all(f"{role}@acme.example" in page for role in Role)


def test_only_those_who_may_manage_see_the_buttons(cast):
    assert "Change role" in cast.client("admin").get(_url("member-list")).content.decode()
    for who in ("support", "auditor"):
        page = cast.client(who).get(_url("member-list")).content.decode()
        assert "Change role" not in page
        assert "Invite" not in page


def test_an_admin_changes_a_role(cast):
    response = _change(cast, "admin", cast.support, Role.AUDITOR)

    assert response.url == _url("member-list")
    assert _role(cast, cast.support) == Role.AUDITOR
    event = AuditEvent.objects.get(event=Event.MEMBER_ROLE_CHANGED)
    assert event.subject_name == "support@acme.example"
    assert event.detail == {"changes": {"role": ["Support", "Auditor"]}}


def test_the_same_role_again_is_no_event(cast):
    _change(cast, "admin", cast.support, Role.SUPPORT)

    assert not AuditEvent.objects.exists()


def test_an_admin_makes_no_owner(cast):
    response = _change(cast, "admin", cast.support, Role.OWNER)

    assert response.status_code == 422
    assert _role(cast, cast.support) == Role.SUPPORT


def test_an_admin_does_not_touch_an_owner(cast):
    assert _change(cast, "admin", cast.owner, Role.AUDITOR).status_code == 403
    assert cast.client("admin").post(_url("member-remove", cast.owner)).status_code == 403
    assert _role(cast, cast.owner) == Role.OWNER


def test_an_owner_makes_another_owner(cast):
    _change(cast, "owner", cast.support, Role.OWNER)

    assert _role(cast, cast.support) == Role.OWNER


def test_the_last_owner_can_not_step_down(cast):
    response = _change(cast, "owner", cast.owner, Role.ADMIN)

    assert response.status_code == 422
    assert "This is the last owner" in response.content.decode()
    assert _role(cast, cast.owner) == Role.OWNER


def test_the_last_owner_can_not_leave(cast):
    response = cast.client("owner").post(_url("member-remove", cast.owner), follow=True)

    assert "This is the last owner. Make somebody else an owner first." in response.content.decode()
    assert _role(cast, cast.owner) == Role.OWNER


def test_an_owner_who_can_not_sign_in_does_not_count(cast):
    MembershipFactory(application=cast.application, user=UserFactory(is_active=False), role=Role.OWNER)

    cast.client("owner").post(_url("member-remove", cast.owner))

    assert _role(cast, cast.owner) == Role.OWNER


def test_a_removed_member_is_out_at_once(cast):
    support = cast.client("support")

    cast.client("admin").post(_url("member-remove", cast.support))

    assert support.get(_url("member-list")).status_code == 404
    event = AuditEvent.objects.get(event=Event.MEMBER_REMOVED)
    assert (event.subject_name, event.detail["left"]) == ("support@acme.example", False)


@pytest.mark.parametrize("who", ["admin", "support", "auditor"])
def test_everybody_else_may_leave(cast, who):
    client = cast.client(who)
    page = client.get(_url("member-remove", getattr(cast, who))).content.decode()
    assert "Leave Acme Tasks?" in page

    response = client.post(_url("member-remove", getattr(cast, who)))

    assert response.url == reverse("application-list")
    assert _role(cast, getattr(cast, who)) is None


@pytest.mark.parametrize("who", ["support", "auditor"])
def test_small_roles_remove_nobody_else(cast, who):
    assert cast.client(who).post(_url("member-remove", cast.admin)).status_code == 403


def test_the_invitations_of_a_removed_member_end(cast):
    client = cast.client("admin")
    client.post(_url("member-invite"), {"email": "friend@example.com", "role": "admin"})

    cast.client("owner").post(_url("member-remove", cast.admin))

    assert not Invitation.objects.exists()
    assert AuditEvent.objects.filter(event=Event.MEMBER_INVITATION_WITHDRAWN).exists()


@pytest.mark.parametrize("name", ["member-change", "member-remove"])
def test_a_member_of_another_application_is_not_there_d1(cast, name):
    theirs = Membership.objects.get(user=cast.stranger)

    response = cast.client("owner").post(reverse(name, args=["acme-tasks", theirs.pk]), {"role": "auditor"})

    assert response.status_code == 404
    theirs.refresh_from_db()
    assert theirs.role == Role.OWNER


def test_a_role_that_does_not_exist_is_refused(cast):
    response = _change(cast, "owner", cast.support, "emperor")

    assert response.status_code == 422


def test_a_role_lost_meanwhile_allows_nothing(cast):
    membership = Membership.objects.get(application=cast.application, user=cast.support)
    Membership.objects.filter(user=cast.admin).update(role=Role.AUDITOR)

    with pytest.raises(members.NotAllowedError):
        members.change_role(membership, Role.AUDITOR, by=cast.admin, actor=SYSTEM)


def test_somebody_removed_meanwhile_is_said(cast):
    membership = Membership.objects.get(application=cast.application, user=cast.support)
    Membership.objects.filter(pk=membership.pk).delete()

    with pytest.raises(members.GoneError):
        members.remove(membership, by=cast.owner, actor=SYSTEM)


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_remove_each_other_at_once_leave_one():
    for _ in range(5):
        application = ApplicationFactory()
        first, second = MembershipFactory.create_batch(2, application=application)
        together = threading.Barrier(2)

        _in_threads(
            partial(_remove, together, first, second.user), partial(_remove, together, second, first.user)
        )

        assert Membership.objects.filter(application=application, role=Role.OWNER).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_leave_at_once_leave_one():
    for _ in range(5):
        application = ApplicationFactory()
        first, second = MembershipFactory.create_batch(2, application=application)
        together = threading.Barrier(2)

        _in_threads(
            partial(_remove, together, first, first.user), partial(_remove, together, second, second.user)
        )

        assert Membership.objects.filter(application=application, role=Role.OWNER).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_step_down_at_once_leave_one():
    application = ApplicationFactory()
    first, second = MembershipFactory.create_batch(2, application=application)
    together = threading.Barrier(2)

    _in_threads(partial(_step_down, together, first), partial(_step_down, together, second))

    assert Membership.objects.filter(application=application, role=Role.OWNER).count() == 1


def test_the_list_needs_few_queries_however_long_it_is(cast, django_assert_max_num_queries):
    MembershipFactory.create_batch(30, application=cast.application, role=Role.AUDITOR)
    client = cast.client("owner")

    with django_assert_max_num_queries(10):
        client.get(_url("member-list"))


def _remove(together, membership, by):
    together.wait()
    members.remove(membership, by=by, actor=SYSTEM)


def _step_down(together, membership):
    together.wait()
    members.change_role(membership, Role.ADMIN, by=membership.user, actor=SYSTEM)


def _in_threads(*works):
    def run(work):
        try:
            work()
        except members.MemberError:
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)


def _url(name, user=None):
    if user is None:
        return reverse(name, args=["acme-tasks"])
    membership = Membership.objects.get(application__slug="acme-tasks", user=user)
    return reverse(name, args=["acme-tasks", membership.pk])


def _change(cast, who, user, role):
    return cast.client(who).post(_url("member-change", user), {"role": role})


def _role(cast, user):
    application = Application.objects.get(pk=cast.application.pk)
    return members.role_of(user, application)
