"""Pages of applications: the list, making one, archiving, deleting, and the logo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal import applications
from portal.access import Permission, application_for
from portal.audit import member_of
from portal.forms import ApplicationForm, DeleteApplicationForm
from portal.models import Application, ApplicationLogo, Role
from portal.requests import posted

if TYPE_CHECKING:
    from django.http import HttpRequest

    from portal.requests import PortalRequest

A_YEAR_S = 365 * 24 * 3600


@require_safe
def home(request: PortalRequest) -> HttpResponse:
    """Lead to the only application, or to the list of them."""
    mine = list(Application.objects.visible_to(request.user)[:2])
    return redirect(mine[0] if len(mine) == 1 else "application-list")


@require_safe
def application_list(request: PortalRequest) -> HttpResponse:
    """List the applications that the member has a role in, archived ones last."""
    mine = list(Application.objects.visible_to(request.user).order_by("name", "slug"))
    for application in mine:
        application.role_label = Role(application.role).label  # type: ignore[attr-defined]
    context = {
        "working": [application for application in mine if not application.is_archived],
        "archived": [application for application in mine if application.is_archived],
    }
    return render(request, "portal/application_list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def application_create(request: PortalRequest) -> HttpResponse:
    """Make an application; whoever makes it is its first owner."""
    form = ApplicationForm(posted(request))
    if request.method == "POST" and form.is_valid():
        try:
            application = applications.create(
                name=form.cleaned_data["name"],
                slug=form.cleaned_data["slug"],
                owner=request.user,
                actor=member_of(request),
            )
        except applications.SlugTakenError:
            # Somebody took it between the form's look and ours.
            form.add_error("slug", "This short name has just been taken. Choose another one.")
        else:
            messages.success(request, f"{application.name} is ready. Add its first OAuth provider next.")
            return redirect(application)
    return render(request, "portal/application_create.html", {"form": form}, status=_status(form))


@require_POST
def application_archive(request: PortalRequest, slug: str) -> HttpResponse:
    """Stop everything in an application, and keep it."""
    application = application_for(request, slug, Permission.DELETE_APPLICATION)
    if applications.archive(application, actor=member_of(request)):
        messages.success(
            request,
            f"{application.name} is archived. Its connections are kept, and rest until you restore it.",
        )
    return redirect("application-settings", slug)


@require_POST
def application_restore(request: PortalRequest, slug: str) -> HttpResponse:
    """Let an archived application work again."""
    application = application_for(request, slug, Permission.DELETE_APPLICATION)
    if applications.restore(application, actor=member_of(request)):
        messages.success(
            request, f"{application.name} works again. Connections are refreshed within a minute."
        )
    return redirect("application-settings", slug)


@require_http_methods(["GET", "HEAD", "POST"])
def application_delete(request: PortalRequest, slug: str) -> HttpResponse:
    """Delete an application, by its typed name."""
    # The role is looked at first, so that a stranger gets the usual 404 instead of the question for the password.
    application = application_for(request, slug, Permission.DELETE_APPLICATION)
    response: HttpResponse = _delete(request, application)
    return response


@reauthentication_required  # type: ignore[untyped-decorator]  # A borrowed browser must not be enough (G10).
def _delete(request: PortalRequest, application: Application) -> HttpResponse:
    form = DeleteApplicationForm(posted(request), application=application)
    if request.method == "POST" and form.is_valid():
        applications.delete(application, actor=member_of(request))
        messages.success(request, f"{application.name} is deleted.")
        return redirect("application-list")
    context = {"application": application, "form": form, "contents": applications.contents(application)}
    return render(request, "portal/application_delete.html", context, status=_status(form))


@login_not_required  # End users see it on the connect page.
@require_safe
def application_logo(request: HttpRequest, slug: str) -> HttpResponse:
    """Send an application's logo: a PNG of our own making (portal/logo.py), never what was uploaded."""
    logo = ApplicationLogo.objects.select_related("application").filter(application__slug=slug).first()
    if logo is None:
        raise Http404
    # The address carries the digest, so what is behind it never changes; other addresses are asked for again.
    is_current = request.GET.get("v") == logo.application.logo_digest
    lifetime = f"public, max-age={A_YEAR_S}, immutable" if is_current else "no-cache"
    headers = {
        "Cache-Control": lifetime,
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": "inline",
    }
    return HttpResponse(bytes(logo.png), content_type="image/png", headers=headers)


def _status(form: DeleteApplicationForm | ApplicationForm) -> int:
    return 422 if form.is_bound and form.errors else 200
