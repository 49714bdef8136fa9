"""The page behind an invitation's link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allauth.account.adapter import get_adapter
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from portal import invitations
from portal.audit import client_address, member_of, request_id
from portal.forms import NewPersonForm
from portal.models import Role
from portal.requests import posted

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from portal.invitations import Found
    from portal.models import User


@login_not_required  # Whoever is invited may have no account yet; the link's 256-bit token is what lets them in.
@require_http_methods(["GET", "HEAD", "POST"])
def invitation_accept(request: HttpRequest, token: str) -> HttpResponse:
    """Say who invites to what; make an account or use the one that is there, and let it in."""
    found = invitations.find(token)
    if found is None:
        return _closed(request, None, status=404)
    if found.invitation.accepted_at or found.invitation.is_expired:
        return _closed(request, found, status=410)
    if request.user.is_authenticated:
        return _signed_in(request, found)
    if invitations.has_account(found.invitation.email):
        return _page(request, found, "sign_in")
    return _new_person(request, found)


def _signed_in(request: HttpRequest, found: Found) -> HttpResponse:
    user: User = request.user  # type: ignore[assignment]
    if request.method != "POST":
        is_right = user.email.lower() == found.invitation.email.lower()
        return _page(request, found, "join" if is_right else "wrong_person")
    try:
        invitations.accept(found, user=user, actor=member_of(request))
    except invitations.WrongPersonError:
        return _page(request, found, "wrong_person", status=403)
    except invitations.InvitationClosedError:
        return _closed(request, found, status=410)
    return _welcome(request, found)


def _new_person(request: HttpRequest, found: Found) -> HttpResponse:
    form = NewPersonForm(posted(request), email=found.invitation.email)
    if request.method == "POST" and form.is_valid():
        try:
            user = invitations.accept_as_new_person(
                found,
                name=form.cleaned_data["name"],
                password=form.cleaned_data["password"],
                ip_address=client_address(request),
                request_id=request_id(request),
            )
        except invitations.AccountExistsError:
            return _page(request, found, "sign_in")
        except invitations.InvitationClosedError:
            return _closed(request, found, status=410)
        get_adapter(request).login(request, user)
        return _welcome(request, found)
    status = 422 if form.is_bound and form.errors else 200
    return _page(request, found, "new_person", form=form, status=status)


def _welcome(request: HttpRequest, found: Found) -> HttpResponse:
    application = found.invitation.application
    if application is None:
        messages.success(
            request, "Welcome. You are the owner of this installation. Make your first application."
        )
        return redirect("application-list")
    messages.success(request, f"Welcome to {application.name}.")
    return redirect(application)


def _page(
    request: HttpRequest, found: Found, step: str, *, status: int = 200, **context: object
) -> HttpResponse:
    context |= {"invitation": found.invitation, "role": Role(found.invitation.role).label, "step": step}
    return render(request, "portal/invitation_accept.html", context, status=status)


def _closed(request: HttpRequest, found: Found | None, *, status: int) -> HttpResponse:
    return render(
        request, "portal/invitation_closed.html", {"invitation": found and found.invitation}, status=status
    )
