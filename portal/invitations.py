"""Invite people by a link, and let them in.

A link's token has 256 random bits, so guessing needs no rate limit; the database holds its SHA-256 alone.

There are two links to one invitation. The one that we mail proves the address of whoever opens it. The one that the
inviting member sees and may pass on does not: it is the hash of the first, so that nobody gets from it to the other.
An account made through it has an unproven address, and allauth then allows it no passkey: otherwise a member could make
an account in somebody else's name and wait in it until another application invites that person.
"""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.urls import reverse

from portal.audit import SYSTEM, Actor, record
from portal.members import MemberError, lock_members, require_may_manage
from portal.models import Event, Invitation, Membership, Role, User
from portal.models.applications import digest
from portal.models.audit import ActorKind

if TYPE_CHECKING:
    from portal.models import Application

LIFETIME = dt.timedelta(days=7)
FIRST_OWNER_LIFETIME = dt.timedelta(hours=24)


class AlreadyMemberError(MemberError):
    """The address belongs to a member."""


class InvitationClosedError(MemberError):
    """The invitation was accepted, withdrawn or replaced meanwhile, or its time is over."""

    message = "This invitation can't be used any more. Ask for a new one."


class WrongPersonError(MemberError):
    """Somebody else is signed in."""


class AccountExistsError(MemberError):
    """There is an account with the invited address, so it has to be signed in to."""

    message = "There is an account with this address already. Sign in with it to accept."


@dataclass(frozen=True)
class Invited:
    """A new invitation and its links: nobody can see them again."""

    invitation: Invitation
    mailed_url: str
    shown_url: str


@dataclass(frozen=True)
class Found:
    """An invitation that a link leads to, and whether the link proves the address."""

    invitation: Invitation
    is_proven: bool


def invite(application: Application, *, email: str, role: Role, by: User, actor: Actor) -> Invited:
    """Invite somebody; an open invitation to the same address is replaced. Raises MemberError.

    The mail is the caller's, after the commit.
    """
    email = email.lower()
    with transaction.atomic():
        lock_members(application)
        require_may_manage(application, by, role)
        if Membership.objects.filter(application=application, user__email=email).exists():
            raise AlreadyMemberError(f"{email} is a member already. Change the role in the list of members.")
        earlier = Invitation.objects.open().filter(application=application, email=email)
        if earlier.filter(role=Role.OWNER).exists():
            require_may_manage(application, by, Role.OWNER)
        is_again = bool(earlier.delete()[0])
        invited = _make(application=application, email=email, role=role, invited_by=by, lifetime=LIFETIME)
        record(
            Event.MEMBER_INVITED,
            actor=actor,
            application=application,
            subject=invited.invitation,
            subject_name=email,
            role=role.label,
            again=is_again,
        )
    return invited


def invite_first_owner(email: str) -> str:
    """Return a one-time link that makes the first owner of this installation; earlier such links end."""
    with transaction.atomic():
        Invitation.objects.open().filter(application=None).delete()
        invited = _make(
            application=None,
            email=email.lower(),
            role=Role.OWNER,
            invited_by=None,
            lifetime=FIRST_OWNER_LIFETIME,
        )
        record(
            Event.MEMBER_INVITED,
            actor=SYSTEM,
            subject=invited.invitation,
            subject_name=email.lower(),
            role="first owner",
        )
    return invited.mailed_url


def withdraw(invitation: Invitation, *, by: User, actor: Actor) -> None:
    """Make an open invitation's link useless. Raises MemberError."""
    application = invitation.application
    assert application is not None
    with transaction.atomic():
        lock_members(application)
        require_may_manage(application, by, invitation.role)
        if not Invitation.objects.open().filter(pk=invitation.pk).exists():
            raise InvitationClosedError("This invitation is not open any more.")
        record(
            Event.MEMBER_INVITATION_WITHDRAWN,
            actor=actor,
            application=application,
            subject=invitation,
            subject_name=invitation.email,
        )
        invitation.delete()


def find(token: str) -> Found | None:
    """Return the invitation that a link's token leads to, whatever its state."""
    shown, mailed = digest(token), digest(digest(token))
    invitations = Invitation.objects.with_expiry().select_related("application", "invited_by")
    invitation = invitations.filter(token_digest__in=[shown, mailed]).first()
    return Found(invitation, is_proven=invitation.token_digest == mailed) if invitation else None


def has_account(email: str) -> bool:
    """Tell whether somebody can sign in, or reset the password, with this address."""
    return User.objects.filter(email=email.lower()).exists()


def accept(found: Found, *, user: User, actor: Actor) -> None:
    """Let a signed-in person in. Raises WrongPersonError or InvitationClosedError."""
    if user.email.lower() != found.invitation.email.lower():
        raise WrongPersonError
    with transaction.atomic():
        _enter(found, user, actor)


def accept_as_new_person(
    found: Found, *, name: str, password: str, ip_address: str | None, request_id: str
) -> User:
    """Make the account and let it in. Raises AccountExistsError or InvitationClosedError."""
    try:
        with transaction.atomic():
            user = User.objects.create_user(found.invitation.email, password, name=name)
            actor = Actor(ActorKind.MEMBER, str(user.pk), str(user), ip_address, request_id)
            _enter(found, user, actor)
    except IntegrityError:
        raise AccountExistsError from None
    return user


def _make(
    *,
    application: Application | None,
    email: str,
    role: Role,
    invited_by: User | None,
    lifetime: dt.timedelta,
) -> Invited:
    mailed = secrets.token_urlsafe(32)
    shown = digest(mailed)
    invitation = Invitation.objects.create(
        application=application,
        email=email,
        role=role,
        invited_by=invited_by,
        token_digest=digest(shown),
        expires_at=Now() + lifetime,
    )
    invitation.refresh_from_db()
    return Invited(invitation, mailed_url=_url(mailed), shown_url=_url(shown))


def _url(token: str) -> str:
    return f"{settings.PUBLIC_URL}{reverse('invitation-accept', args=[token])}"


def _enter(found: Found, user: User, actor: Actor) -> None:
    """Spend the invitation and make the membership, in the caller's transaction."""
    is_spent = (
        Invitation.objects.open()
        .filter(pk=found.invitation.pk, expires_at__gt=Now())
        .update(accepted_at=Now())
    )
    if not is_spent:
        raise InvitationClosedError
    invitation = found.invitation
    application = invitation.application
    address, _ = EmailAddress.objects.get_or_create(user=user, email=user.email, defaults={"primary": True})
    if found.is_proven and not address.verified:
        address.verified = True
        address.save(update_fields=["verified"])
    if application is None:
        user.is_staff = user.is_superuser = True
        user.save(update_fields=["is_staff", "is_superuser"])
        record(Event.MEMBER_JOINED, actor=actor, subject=user, role="first owner")
        return
    lock_members(application)
    membership, is_new = Membership.objects.get_or_create(
        application=application, user=user, defaults={"role": invitation.role}
    )
    if is_new:
        record(
            Event.MEMBER_JOINED,
            actor=actor,
            application=application,
            subject=membership,
            subject_name=str(user),
            role=Role(invitation.role).label,
        )
