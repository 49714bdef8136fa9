"""The Settings page of an application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from portal import applications
from portal.access import Permission, application_for
from portal.audit import member_of
from portal.forms import ApplicationSettingsForm
from portal.requests import posted

if TYPE_CHECKING:
    from django.http import HttpResponse

    from portal.requests import PortalRequest


@require_http_methods(["GET", "HEAD", "POST"])
def application_settings(request: PortalRequest, slug: str) -> HttpResponse:
    """Show and change name, logo and return origins."""
    application = application_for(request, slug, Permission.MANAGE_APPLICATION)
    form = ApplicationSettingsForm(posted(request), request.FILES or None, application=application)
    if request.method == "POST" and form.is_valid():
        is_changed = applications.change(
            application,
            name=form.cleaned_data["name"],
            return_origins=form.cleaned_data["return_origins"],
            logo=form.cleaned_data["logo"],
            is_logo_removed=form.cleaned_data.get("remove_logo", False),
            actor=member_of(request),
        )
        messages.success(
            request, "Saved." if is_changed else "Nothing was different, so nothing has changed."
        )
        return redirect("application-settings", slug)
    status = 422 if form.is_bound and form.errors else 200
    if status == 422:
        # The page around the form shows what is stored, not what was typed.
        application.refresh_from_db(fields=["name"])
    return render(request, "portal/application_settings.html", {"form": form}, status=status)
