"""The first owner of an installation (H9)."""

from __future__ import annotations

import datetime as dt
import io

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal.models import AuditEvent, Event, Invitation, User
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
NEW_PERSON = {"name": "Jo Doe", "password": "a few words in a row", "password_again": "a few words in a row"}


def test_there_is_no_default_account_h9():
    assert not User.objects.exists()


def test_the_link_makes_the_owner_who_may_enter_django_admin_h9():
    link = _create("Jo@Example.com")
    browser = Client()
    assert "becomes the owner of this installation" in browser.get(link).content.decode()

    response = browser.post(link, NEW_PERSON)

    jo = User.objects.get(email="jo@example.com")
    assert (jo.is_staff, jo.is_superuser) == (True, True)
    assert response.url == reverse("application-list")
    assert browser.get(reverse("admin:index")).status_code == 200
    assert AuditEvent.objects.get(event=Event.MEMBER_JOINED).detail == {"role": "first owner"}


def test_somebody_with_an_account_becomes_the_owner_by_signing_in():
    jo = UserFactory(email="jo@example.com")
    link = _create("jo@example.com")
    browser = Client()
    browser.force_login(jo, backend="django.contrib.auth.backends.ModelBackend")

    browser.post(link)

    jo.refresh_from_db()
    assert (jo.is_staff, jo.is_superuser) == (True, True)


def test_the_link_works_once_and_for_a_day_h9():
    link = _create("jo@example.com")
    lifetime = Invitation.objects.get().expires_at - timezone.now()
    assert dt.timedelta(hours=23) < lifetime <= dt.timedelta(hours=24)

    Client().post(link, NEW_PERSON)

    assert Client().get(link).status_code == 410


def test_a_second_link_ends_the_first():
    first = _create("jo@example.com")

    _create("sam@example.com")

    assert Client().get(first).status_code == 404


def test_an_installation_with_an_owner_is_left_alone_unless_again():
    UserFactory(email="owner@example.com", is_superuser=True)

    with pytest.raises(CommandError, match=r"has an owner: owner@example\.com"):
        _create("jo@example.com")

    assert _create("jo@example.com", again=True)


def test_an_owner_who_can_not_sign_in_is_no_hindrance():
    UserFactory(is_superuser=True, is_active=False)

    assert _create("jo@example.com")


def test_what_is_no_address_is_refused():
    with pytest.raises(CommandError, match="is not an e-mail address"):
        _create("jo")


def _create(email, **options):
    out = io.StringIO()
    call_command("create_owner", email, stdout=out, stderr=io.StringIO(), **options)
    [line] = out.getvalue().splitlines()
    assert line.startswith("http://testserver/invitations/")
    return line.removeprefix("http://testserver")
