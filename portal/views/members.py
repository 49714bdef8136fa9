"""Pages of members: the list, changing a role, removing, inviting, withdrawing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Case, Value, When
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal import invitations, members
from portal.access import Permission, application_for, is_allowed
from portal.audit import member_of
from portal.forms import InviteForm, RoleForm
from portal.invitation_mail import send_invitation
from portal.models import Invitation, Membership, Role
from portal.requests import posted

if TYPE_CHECKING:
    from django.http import HttpResponse

    from portal.models import Application
    from portal.requests import PortalRequest

BY_ROLE = Case(*(When(role=role, then=Value(place)) for place, role in enumerate(Role)))


@require_safe
def member_list(request: PortalRequest, slug: str) -> HttpResponse:
    """List the members and the open invitations."""
    application = application_for(request, slug)
    memberships = Membership.objects.filter(application=application).select_related("user")
    may_manage = is_allowed(application, Permission.MANAGE_MEMBERS)
    rows = [
        {
            "membership": membership,
            "is_me": membership.user_id == request.user.pk,
            "may_change": _may_change(application, membership),
        }
        for membership in memberships.order_by(BY_ROLE, "user__name", "user__email")
    ]
    open_invitations = (
        Invitation.objects.open().filter(application=application) if may_manage else Invitation.objects.none()
    )
    context = {
        "rows": rows,
        "invitations": [
            {"invitation": invitation, "may_change": _may_change(application, invitation)}
            for invitation in open_invitations.with_expiry().select_related("invited_by").order_by("email")
        ],
    }
    return render(request, "portal/member_list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def member_invite(request: PortalRequest, slug: str) -> HttpResponse:
    """Invite somebody. The link is shown in the answer to the POST, once: it is stored nowhere in clear."""
    application = application_for(request, slug, Permission.MANAGE_MEMBERS)
    form = InviteForm(
        posted(request),
        roles=_roles_for(application),
        initial={"role": Role.SUPPORT, "email": request.GET.get("email", "")},
    )
    if request.method == "POST" and form.is_valid():
        email, role = form.cleaned_data["email"], form.cleaned_data["role"]
        try:
            invited = invitations.invite(
                application, email=email, role=role, by=request.user, actor=member_of(request)
            )
        except members.MemberError as error:
            form.add_error("email", error.message)
        else:
            is_mailed = send_invitation(invited, by=request.user)
            context = {"invitation": invited.invitation, "url": invited.shown_url, "is_mailed": is_mailed}
            return render(request, "portal/member_invited.html", context)
    status = 422 if form.is_bound and form.errors else 200
    return render(request, "portal/member_invite.html", {"form": form}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def member_change(request: PortalRequest, slug: str, pk: int) -> HttpResponse:
    """Give a member another role."""
    application = application_for(request, slug, Permission.MANAGE_MEMBERS)
    membership = _member(application, pk)
    if not _may_change(application, membership):
        raise PermissionDenied("Only owners change owners.")
    form = RoleForm(posted(request), roles=_roles_for(application), initial={"role": membership.role})
    if request.method == "POST" and form.is_valid():
        role: Role = form.cleaned_data["role"]
        try:
            is_new = members.change_role(membership, role, by=request.user, actor=member_of(request))
        except members.MemberError as error:
            form.add_error("role", error.message)
        else:
            if is_new:
                messages.success(request, f"{membership.user.get_full_name()} is now {role.label.lower()}.")
            return redirect("member-list", slug)
    status = 422 if form.is_bound and form.errors else 200
    return render(
        request, "portal/member_change.html", {"form": form, "membership": membership}, status=status
    )


@require_http_methods(["GET", "HEAD", "POST"])
def member_remove(request: PortalRequest, slug: str, pk: int) -> HttpResponse:
    """Remove a member; everybody may remove themselves."""
    application = application_for(request, slug)
    membership = _member(application, pk)
    is_me = membership.user_id == request.user.pk
    if not is_me:
        application_for(request, slug, Permission.MANAGE_MEMBERS)
        if not _may_change(application, membership):
            raise PermissionDenied("Only owners remove owners.")
    if request.method == "POST":
        try:
            members.remove(membership, by=request.user, actor=member_of(request))
        except members.MemberError as error:
            messages.error(request, error.message)
            return redirect("member-list", slug)
        if is_me:
            messages.success(request, f"You have left {application.name}.")
            return redirect("application-list")
        messages.success(request, f"{membership.user.get_full_name()} is no longer a member.")
        return redirect("member-list", slug)
    return render(request, "portal/member_remove.html", {"membership": membership, "is_me": is_me})


@require_POST
def invitation_withdraw(request: PortalRequest, slug: str, pk: str) -> HttpResponse:
    """Make an open invitation's link useless."""
    application = application_for(request, slug, Permission.MANAGE_MEMBERS)
    invitation = get_object_or_404(Invitation, application=application, pk=pk)
    try:
        invitations.withdraw(invitation, by=request.user, actor=member_of(request))
    except members.MemberError as error:
        messages.error(request, error.message)
    else:
        messages.success(
            request, f"The invitation to {invitation.email} is withdrawn; its link leads nowhere now."
        )
    return redirect("member-list", slug)


def _member(application: Application, pk: int) -> Membership:
    return get_object_or_404(
        Membership.objects.select_related("user", "application"), application=application, pk=pk
    )


def _roles_for(application: Application) -> list[Role]:
    """Return the roles that the member may give: only owners make owners."""
    return [role for role in Role if role != Role.OWNER or application.role == Role.OWNER]


def _may_change(application: Application, target: Membership | Invitation) -> bool:
    if not is_allowed(application, Permission.MANAGE_MEMBERS):
        return False
    return target.role != Role.OWNER or application.role == Role.OWNER
