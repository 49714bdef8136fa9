"""Invitations: made, shown once, mailed, accepted, and every way that they end."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal.models import AuditEvent, Event, Invitation, Membership, Role, User
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
LINK = re.compile(r"http://testserver(/invitations/[\w-]+/)")
NEW_PERSON = {"name": "Jo Doe", "password": "a few words in a row", "password_again": "a few words in a row"}


def test_an_invitation_is_mailed_and_its_other_link_shown_once(cast):
    response = _invite(cast)

    page = response.content.decode()
    shown = LINK.search(page)[1]
    assert "It is shown only now." in page
    assert f'data-copy="http://testserver{shown}"' in page
    [message] = mail.outbox
    assert message.to == ["jo@example.com"]
    assert message.subject == "Admin invites you to Acme Tasks"
    assert "as support" in message.body
    assert _mailed_link() != shown
    assert shown not in cast.client("admin").get(reverse("member-list", args=["acme-tasks"])).content.decode()
    event = AuditEvent.objects.get(event=Event.MEMBER_INVITED)
    assert (event.subject_name, event.detail["role"]) == ("jo@example.com", "Support")


def test_neither_link_is_stored(cast):
    shown = LINK.search(_invite(cast).content.decode())[1]

    stored = Invitation.objects.get().token_digest
    assert stored not in {shown.split("/")[2], _mailed_link().split("/")[2]}


def test_an_invitation_is_good_for_seven_days(cast):
    _invite(cast)

    lifetime = Invitation.objects.get().expires_at - timezone.now()
    assert dt.timedelta(days=6, hours=23) < lifetime <= dt.timedelta(days=7)


@pytest.mark.parametrize("which", ["mailed", "shown"])
def test_a_new_person_makes_an_account_and_is_in(cast, which):
    shown = LINK.search(_invite(cast).content.decode())[1]
    link = shown if which == "shown" else _mailed_link()
    browser = Client()
    page = browser.get(link).content.decode()
    assert "Join Acme Tasks" in page
    assert "<strong>Admin</strong> (admin@acme.example) invites <strong>jo@example.com</strong>" in page

    response = browser.post(link, NEW_PERSON)

    assert response.url == reverse("application-overview", args=["acme-tasks"])
    jo = User.objects.get(email="jo@example.com")
    assert (jo.name, jo.is_staff, jo.is_superuser) == ("Jo Doe", False, False)
    assert Membership.objects.get(user=jo).role == Role.SUPPORT
    assert browser.get(reverse("member-list", args=["acme-tasks"])).status_code == 200
    event = AuditEvent.objects.get(event=Event.MEMBER_JOINED)
    assert (event.actor_name, event.ip_address) == ("jo@example.com", "127.0.0.1")
    # Only what came by mail proves the address.
    assert EmailAddress.objects.get(user=jo).verified is (which == "mailed")


@pytest.mark.parametrize(("which", "is_allowed"), [("mailed", True), ("shown", False)])
def test_an_account_with_an_unproven_address_gets_no_second_factor(cast, which, is_allowed):
    """Whoever invites sees a link too, and could make an account in somebody else's name and keep a way in."""
    shown = LINK.search(_invite(cast).content.decode())[1]
    browser = Client()
    browser.post(shown if which == "shown" else _mailed_link(), NEW_PERSON)
    browser.post(reverse("account_reauthenticate"), {"password": NEW_PERSON["password"]})

    response = browser.get(reverse("mfa_activate_totp"))

    assert response.status_code == (200 if is_allowed else 302)


def test_the_password_is_held_against_the_rules_and_the_name_is_kept(cast):
    _invite(cast)

    response = Client().post(
        _mailed_link(), {"name": "Jo Doe", "password": "short", "password_again": "shirt"}
    )

    page = response.content.decode()
    assert response.status_code == 422
    assert "This password is too short" in page
    assert "The two passwords differ" in page
    assert 'value="Jo Doe"' in page
    assert "short" not in re.findall(r'value="([^"]*)"', page)
    assert not User.objects.filter(email="jo@example.com").exists()


def test_somebody_with_an_account_has_to_sign_in_as_that_address(cast):
    UserFactory(email="jo@example.com")
    _invite(cast)
    browser = Client()
    link = _mailed_link()

    page = browser.get(link).content.decode()

    assert "There is an account with this address already." in page
    assert f"{reverse('account_login')}?next={link}" in page
    assert browser.post(link, NEW_PERSON).status_code == 200
    assert not Membership.objects.filter(user__email="jo@example.com").exists()


def test_signing_in_leads_back_to_the_invitation(cast):
    UserFactory(email="jo@example.com")
    _invite(cast)
    browser = Client()
    login = f"{reverse('account_login')}?next={_mailed_link()}"

    response = browser.post(login, {"login": "jo@example.com", "password": PASSWORD, "next": _mailed_link()})

    assert response.url == _mailed_link()


def test_somebody_with_an_account_joins_by_one_click(cast):
    jo = UserFactory(email="jo@example.com")
    _invite(cast)
    browser = _signed_in(jo)
    assert ">Join</button>" in browser.get(_mailed_link()).content.decode()

    browser.post(_mailed_link())

    assert Membership.objects.get(user=jo).role == Role.SUPPORT


def test_the_wrong_person_is_told_so_and_does_not_get_in(cast):
    _invite(cast)
    browser = cast.client("stranger")
    page = browser.get(_mailed_link()).content.decode()
    assert "You are signed in as <strong>stranger@other.example</strong>" in page
    assert "it is for <strong>jo@example.com</strong>" in page

    response = browser.post(_mailed_link())

    assert response.status_code == 403
    assert not Membership.objects.filter(application=cast.application, user=cast.stranger).exists()


def test_a_link_works_once(cast):
    _invite(cast)
    Client().post(_mailed_link(), NEW_PERSON)

    response = Client().get(_mailed_link())

    assert response.status_code == 410
    assert "This invitation has been used" in response.content.decode()


def test_an_expired_link_says_whom_to_ask(cast):
    _invite(cast)
    Invitation.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))

    response = Client().post(_mailed_link(), NEW_PERSON)

    assert response.status_code == 410
    assert "This invitation has expired" in response.content.decode()
    assert "Ask Admin (admin@acme.example) for a new one" in response.content.decode()
    assert not User.objects.filter(email="jo@example.com").exists()


@pytest.mark.parametrize("token", ["x", "a" * 64, "%00", "ü"])
def test_a_link_that_leads_nowhere_has_its_own_page(db, token):
    response = Client().get(f"/invitations/{token}/")

    assert response.status_code == 404
    assert "This invitation is not there" in response.content.decode()


def test_a_withdrawn_link_leads_nowhere(cast):
    _invite(cast)
    invitation = Invitation.objects.get()

    cast.client("admin").post(reverse("invitation-withdraw", args=["acme-tasks", invitation.pk]))

    assert Client().get(_mailed_link()).status_code == 404
    assert AuditEvent.objects.filter(event=Event.MEMBER_INVITATION_WITHDRAWN).exists()


def test_inviting_again_replaces_the_link(cast):
    _invite(cast)
    first = _mailed_link()

    _invite(cast, email="Jo@Example.com", role="auditor")

    assert Client().get(first).status_code == 404
    assert Client().get(_mailed_link()).status_code == 200
    assert Invitation.objects.get().role == Role.AUDITOR


def test_a_member_is_not_invited_again(cast):
    response = _invite(cast, email="Support@acme.example")

    assert response.status_code == 422
    assert "is a member already" in response.content.decode()


def test_an_admin_invites_no_owner_and_does_not_touch_an_owners_invitation(cast):
    assert _invite(cast, role="owner").status_code == 422
    _invite(cast, who="owner", role="owner")
    invitation = Invitation.objects.get()

    cast.client("admin").post(reverse("invitation-withdraw", args=["acme-tasks", invitation.pk]))
    response = _invite(cast, role="support")

    assert response.status_code == 422
    assert Invitation.objects.get() == invitation


def test_an_invitation_of_another_application_is_not_there_d1(cast):
    _invite(cast)
    invitation = Invitation.objects.get()

    response = cast.client("stranger").post(
        reverse("invitation-withdraw", args=["other-product", invitation.pk])
    )

    assert response.status_code == 404
    assert Invitation.objects.exists()


def test_a_mail_server_that_does_not_answer_leaves_the_link_to_pass_on(cast, settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9

    response = _invite(cast)

    assert "The e-mail could not be sent." in response.content.decode()
    assert Client().get(LINK.search(response.content.decode())[1]).status_code == 200


def test_a_name_with_line_breaks_makes_no_mail_header(cast):
    User.objects.filter(pk=cast.admin.pk).update(name="Eve\r\nBcc: all@example.com")

    _invite(cast)

    assert "\n" not in mail.outbox[0].subject
    assert mail.outbox[0].recipients() == ["jo@example.com"]


def test_what_is_typed_is_kept_when_the_address_is_wrong(cast):
    response = _invite(cast, email="not an address", role="auditor")

    page = response.content.decode()
    assert response.status_code == 422
    assert 'value="not an address"' in page
    assert re.search(r'value="auditor"[^>]*checked', page)


def test_opening_a_link_accepts_nothing(cast):
    """Mail scanners open links."""
    jo = UserFactory(email="jo@example.com")
    _invite(cast)

    _signed_in(jo).get(_mailed_link())

    assert Invitation.objects.get().accepted_at is None


def test_the_token_is_not_in_the_log(cast, caplog):
    from portal.logs import JsonLineFormatter, LineFormatter

    with caplog.at_level("INFO"):
        Client().get("/invitations/" + "z" * 43 + "/")

    lines = [
        form.format(record) for record in caplog.records for form in (LineFormatter(), JsonLineFormatter())
    ]
    assert "portal.access" in "".join(lines)
    assert "zzzz" not in "".join(lines)


def _invite(cast, who="admin", **data):
    values = {"email": "jo@example.com", "role": "support"} | data
    return cast.client(who).post(reverse("member-invite", args=["acme-tasks"]), values)


def _mailed_link():
    return LINK.search(mail.outbox[-1].body)[1]


def _signed_in(user):
    browser = Client()
    browser.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return browser
