"""Change who may do what in an application.

Every change takes a lock on the application first, and reads roles only then: two owners who remove each other at the
same moment leave one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from portal.access import PERMISSIONS, Permission
from portal.audit import record
from portal.models import Application, Event, Invitation, Membership, Role

if TYPE_CHECKING:
    from portal.audit import Actor
    from portal.models import User


class MemberError(Exception):
    """A change of members that is not allowed; the message is fit for people."""

    message = "This can't be done."

    def __init__(self, message: str = "") -> None:
        self.message = message or self.message
        super().__init__(self.message)


class LastOwnerError(MemberError):
    """The application would have no owner left."""

    message = "This is the last owner. Make somebody else an owner first."


class NotAllowedError(MemberError):
    """The acting member's role does not allow it (any more)."""

    message = "Your role does not let you do this. Only owners make or change owners."


class GoneError(MemberError):
    """The member has been removed meanwhile."""

    message = "This person is not a member any more."


def lock_members(application: Application) -> None:
    """Let nobody else change this application's members until the transaction ends.

    NO KEY: rows that point at the application can still be added meanwhile.
    """
    Application.objects.select_for_update(no_key=True).only("pk").get(pk=application.pk)


def role_of(user: User, application: Application) -> Role | None:
    """Return the role that a user has just now."""
    role = (
        Membership.objects.filter(user=user, application=application).values_list("role", flat=True).first()
    )
    return Role(role) if role else None


def require_may_manage(application: Application, by: User, *roles: Role | str) -> None:
    """Raise NotAllowedError unless `by` may manage members, owners included if one of `roles` is owner."""
    role = role_of(by, application)
    if role is None or Permission.MANAGE_MEMBERS not in PERMISSIONS[role]:
        raise NotAllowedError("Your role does not let you change members any more.")
    if Role.OWNER in roles and role != Role.OWNER:
        raise NotAllowedError


def change_role(membership: Membership, role: Role, *, by: User, actor: Actor) -> bool:
    """Give a member another role and tell whether that is new. Raises MemberError."""
    application = membership.application
    with transaction.atomic():
        lock_members(application)
        membership = _reread(membership)
        before = Role(membership.role)
        require_may_manage(application, by, before, role)
        if role == before:
            return False
        if before == Role.OWNER:
            _require_other_owner(membership)
        membership.role = role
        membership.save(update_fields=["role"])
        record(
            Event.MEMBER_ROLE_CHANGED,
            actor=actor,
            application=application,
            subject=membership,
            subject_name=str(membership.user),
            changes={"role": [before.label, role.label]},
        )
    return True


def remove(membership: Membership, *, by: User, actor: Actor) -> None:
    """Remove a member, or let them leave. Open invitations that they made go too. Raises MemberError."""
    application = membership.application
    with transaction.atomic():
        lock_members(application)
        membership = _reread(membership)
        if membership.user_id != by.pk:
            require_may_manage(application, by, membership.role)
        if membership.role == Role.OWNER:
            _require_other_owner(membership)
        record(
            Event.MEMBER_REMOVED,
            actor=actor,
            application=application,
            subject=membership,
            subject_name=str(membership.user),
            role=Role(membership.role).label,
            left=membership.user_id == by.pk,
        )
        withdraw_invitations_of(membership.user, application, actor=actor)
        membership.delete()


def withdraw_invitations_of(user: User, application: Application, *, actor: Actor) -> None:
    """End what a removed member has invited, in the caller's transaction.

    Whoever invited somebody has seen the link, and could otherwise come back through it.
    """
    for invitation in Invitation.objects.open().filter(application=application, invited_by=user):
        record(
            Event.MEMBER_INVITATION_WITHDRAWN,
            actor=actor,
            application=application,
            subject=invitation,
            subject_name=invitation.email,
            why="whoever made it was removed",
        )
        invitation.delete()


def _reread(membership: Membership) -> Membership:
    fresh = Membership.objects.select_related("user").filter(pk=membership.pk).first()
    if fresh is None:
        raise GoneError
    return fresh


def _require_other_owner(membership: Membership) -> None:
    """Raise LastOwnerError unless another owner could sign in."""
    others = Membership.objects.filter(
        application=membership.application_id, role=Role.OWNER, user__is_active=True
    )
    if not others.exclude(pk=membership.pk).exists():
        raise LastOwnerError
