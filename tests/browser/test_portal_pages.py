"""Applications, members, invitations, settings and the audit log, in a real browser."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from portal import applications
from portal.audit import Actor, record
from portal.invitations import invite
from portal.models import Event, Invitation, Role
from portal.models.audit import ActorKind
from tests.browser.looks import look
from tests.factories import PASSWORD, ApplicationFactory, MembershipFactory, UserFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

    from tests.browser.conftest import SignIn
    from tests.conftest import Cast

ALEX = Actor(ActorKind.MEMBER, "1", "owner@acme.example", "192.0.2.7", "r")
BACK_END = Actor(ActorKind.API_KEY, "k", "Nightly report", "2001:db8::17")
HOME = "/applications/acme-tasks"


@pytest.fixture
def owner(page: Page, cast: Cast, sign_in: SignIn) -> Page:
    sign_in(page, cast.owner)
    return page


def test_the_list_of_applications(owner: Page, cast: Cast) -> None:
    MembershipFactory(application=ApplicationFactory(name="Acme Boards"), user=cast.owner, role=Role.AUDITOR)
    old = MembershipFactory(application=ApplicationFactory(name="Old Tool"), user=cast.owner).application
    applications.archive(old, actor=ALEX)

    owner.goto("/applications/")

    look(owner, "applications")


def test_an_empty_list_of_applications(page: Page, live: str, sign_in: SignIn) -> None:
    sign_in(page, UserFactory(name="Kim Newcomer"))

    page.goto("/")

    look(page, "applications-empty")


def test_a_short_name_is_proposed_while_the_name_is_typed(owner: Page) -> None:
    owner.goto("/applications/new/")
    look(owner, "application-create")
    owner.get_by_label("Name", exact=True).press_sequentially("Käse & Söhne")
    expect(owner.get_by_label("Short name")).to_have_value("kase-sohne")
    owner.get_by_label("Short name").fill("acme-tasks")

    owner.get_by_role("button", name="Make application").click()

    alert = owner.get_by_role("alert")
    alert.wait_for()
    expect(alert).to_be_focused()
    expect(owner.get_by_label("Name", exact=True)).to_have_value("Käse & Söhne")
    look(owner, "application-create-wrong")


def test_settings_and_what_is_wrong_with_them(owner: Page) -> None:
    owner.goto(f"{HOME}/settings/")
    look(owner, "settings")
    owner.get_by_label("Name").fill("")
    owner.get_by_label("Allowed return origins").fill(
        "https://ok.example\nhttp://app.example.com\nexample.com/path"
    )
    owner.get_by_label("Logo").set_input_files(
        {"name": "a.svg", "mimeType": "image/svg+xml", "buffer": b"<svg/>"}
    )

    owner.get_by_role("button", name="Save").click()

    owner.get_by_role("alert").wait_for()
    look(owner, "settings-wrong")


def test_archiving_and_deleting(owner: Page, cast: Cast) -> None:
    owner.goto(f"{HOME}/settings/")
    owner.get_by_role("button", name="Archive Acme Tasks").click()
    owner.get_by_text("Acme Tasks is archived.").wait_for()
    look(owner, "settings-archived")
    owner.get_by_role("link", name="Delete Acme Tasks…").click()
    owner.get_by_label("Password").fill(PASSWORD)
    owner.keyboard.press("Enter")
    owner.wait_for_url(f"**{HOME}/delete/")
    look(owner, "application-delete")
    owner.get_by_label("Name of the application").fill("acme")
    owner.get_by_role("button", name="Delete Acme Tasks").click()
    owner.get_by_role("alert").wait_for()
    look(owner, "application-delete-wrong")
    owner.get_by_label("Name of the application").fill("Acme Tasks")

    owner.get_by_role("button", name="Delete Acme Tasks").click()

    owner.get_by_text("Acme Tasks is deleted.").wait_for()


def test_members_and_their_roles(owner: Page, cast: Cast) -> None:
    for email in ("kim@example.com", "a.rather.long.address.of.somebody@engineering.example.com"):
        invite(cast.application, email=email, role=Role.SUPPORT, by=cast.owner, actor=ALEX)
    Invitation.objects.filter(email="kim@example.com").update(
        expires_at=timezone.now() - dt.timedelta(days=1)
    )
    owner.goto(f"{HOME}/members/")
    look(owner, "members")
    owner.get_by_role("link", name="Change role of Support").click()
    look(owner, "member-change")
    owner.get_by_label("Auditor").check()
    owner.get_by_role("button", name="Save").click()
    owner.get_by_text("Support is now auditor.").wait_for()
    owner.get_by_role("link", name="Leave").click()
    look(owner, "member-leave")
    owner.goto(f"{HOME}/members/")
    owner.get_by_role("link", name="Remove Admin").click()
    look(owner, "member-remove")

    owner.get_by_role("button", name="Remove").click()

    owner.get_by_text("Admin is no longer a member.").wait_for()


def test_inviting_and_joining(owner: Page, new_page: Callable[..., Page]) -> None:
    owner.goto(f"{HOME}/members/invite/")
    look(owner, "member-invite")
    owner.get_by_role("button", name="Invite").click()
    owner.get_by_role("alert").wait_for()
    look(owner, "member-invite-wrong")
    owner.get_by_label("E-mail address").fill("jo@example.com")
    owner.get_by_label("Admin").check()
    owner.get_by_role("button", name="Invite").click()
    owner.get_by_text("It is shown only now.").wait_for()
    look(owner, "member-invited")
    link = owner.locator(".copy code").inner_text()
    jo = new_page()
    jo.goto(link)
    look(jo, "invitation")
    jo.get_by_label("Password", exact=True).fill("short")
    jo.get_by_role("button", name="Make my account and join").click()
    jo.get_by_role("alert").wait_for()
    look(jo, "invitation-wrong")
    jo.get_by_label("Your name").fill("Jo Doe")
    jo.get_by_label("Password", exact=True).fill("a few words in a row")
    jo.get_by_label("Password again").fill("a few words in a row")

    jo.get_by_role("button", name="Make my account and join").click()

    jo.get_by_text("Welcome to Acme Tasks.").wait_for()
    jo.goto(f"{HOME}/members/")
    jo.get_by_role("row", name="Jo Doe").wait_for()


def test_every_other_end_of_an_invitation(
    cast: Cast, live: str, new_page: Callable[..., Page], sign_in: SignIn
) -> None:
    invited = invite(cast.application, email="jo@example.com", role=Role.SUPPORT, by=cast.owner, actor=ALEX)
    stranger, visitor = new_page(), new_page()
    sign_in(stranger, cast.stranger)
    stranger.goto(invited.mailed_url)
    look(stranger, "invitation-for-somebody-else")
    visitor.goto("/invitations/nothing/")
    look(visitor, "invitation-not-there")
    UserFactory(email="jo@example.com")
    visitor.goto(invited.mailed_url)
    look(visitor, "invitation-sign-in")

    Invitation.objects.update(expires_at=timezone.now() - dt.timedelta(days=1))

    visitor.goto(invited.mailed_url)
    look(visitor, "invitation-expired")


def test_the_audit_log_empty_full_and_filtered(owner: Page, cast: Cast) -> None:
    owner.goto(f"{HOME}/audit-log/")
    look(owner, "audit-log-empty")
    application = cast.application
    record(
        Event.APPLICATION_CREATED, actor=ALEX, application=application, subject=application, slug="acme-tasks"
    )
    record(
        Event.MEMBER_ROLE_CHANGED,
        actor=ALEX,
        application=application,
        subject_name="support@acme.example",
        changes={"role": ["Support", "Admin"]},
    )
    for number in range(60):
        record(
            Event.TOKEN_HANDED_OUT,
            actor=BACK_END,
            application=application,
            subject_name=f"user-{number} (Jo Doe)",
            purpose="nightly report",
        )
    owner.goto(f"{HOME}/audit-log/")
    look(owner, "audit-log")
    owner.get_by_role("link", name="Next").click()
    owner.get_by_text("role: Support → Admin").wait_for()
    owner.get_by_label("Event").select_option("Provider added")
    owner.get_by_role("button", name="Filter").click()
    owner.get_by_text("Nothing matches").wait_for()
    look(owner, "audit-log-nothing")
    owner.get_by_label("From").fill("2025-03-02")
    owner.locator("#id_until").fill("2025-03-01")
    owner.get_by_role("button", name="Filter").click()
    owner.get_by_role("alert").wait_for()

    look(owner, "audit-log-wrong")
