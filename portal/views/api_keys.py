"""Pages of API keys: the list, making, changing, rotating and revoking one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from portal import api_keys
from portal.access import Permission, application_for
from portal.api_key_forms import ApiKeyForm, ChangeApiKeyForm, NetworksForm, RotateApiKeyForm
from portal.audit import member_of
from portal.models import ApiKey
from portal.models.api_keys import KeyPermission
from portal.requests import posted

if TYPE_CHECKING:
    import uuid

    from django.http import HttpResponse

    from portal.models import Application
    from portal.requests import PortalRequest


@require_safe
def api_key_list(request: PortalRequest, slug: str) -> HttpResponse:
    """List the keys, those that no longer work too."""
    application = application_for(request, slug, Permission.MANAGE_APPLICATION)
    keys = ApiKey.objects.visible_to(application).with_clock().select_related("replaced_by")
    ending = [key for key in keys if key.ends_soon]
    return render(request, "portal/api_key_list.html", {"keys": keys, "ending": ending})


@require_http_methods(["GET", "HEAD", "POST"])
def api_key_create(request: PortalRequest, slug: str) -> HttpResponse:
    """Make a key. It is shown in the answer to the POST, once: it is stored nowhere in clear."""
    application = application_for(request, slug, Permission.MANAGE_APPLICATION)
    form = ApiKeyForm(posted(request), application=application)
    if request.method == "POST" and form.is_valid():
        key, text = api_keys.create(
            application,
            name=form.cleaned_data["name"],
            permissions=form.cleaned_data["permissions"],
            provider_ids=form.cleaned_data.get("provider_ids", []),
            networks=form.cleaned_data["networks"],
            lifetime=form.lifetime,
            created_by=request.user,
            actor=member_of(request),
        )
        return render(request, "portal/api_key_created.html", {"key": key, "text": text})
    status = 422 if form.is_bound and form.errors else 200
    return render(request, "portal/api_key_create.html", {"form": form}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def api_key_export(request: PortalRequest, slug: str) -> HttpResponse:
    """Make a key that takes connections out with their refresh tokens: for owners who prove who they are, for a day."""
    # The role is looked at first, so that a stranger gets the usual 404 instead of the question for the password.
    application = application_for(request, slug, Permission.EXPORT_GRANTS)
    response: HttpResponse = _export_key(request, application)
    return response


@reauthentication_required  # type: ignore[untyped-decorator]  # A borrowed browser must not be enough (G10).
def _export_key(request: PortalRequest, application: Application) -> HttpResponse:
    form = NetworksForm(posted(request))
    if request.method == "POST" and form.is_valid():
        key, text = api_keys.create(
            application,
            name=f"Export by {request.user}"[:80],
            permissions=[KeyPermission.GRANTS_EXPORT],
            networks=form.cleaned_data["networks"],
            lifetime=api_keys.EXPORT_LIFETIME,
            created_by=request.user,
            actor=member_of(request),
        )
        return render(request, "portal/api_key_created.html", {"key": key, "text": text})
    status = 422 if form.is_bound and form.errors else 200
    return render(request, "portal/api_key_export.html", {"form": form}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def api_key_change(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Give a key another name, and say anew from where it may be used."""
    application = application_for(request, slug, Permission.MANAGE_APPLICATION)
    key = get_object_or_404(ApiKey.objects.visible_to(application), pk=pk)
    form = ChangeApiKeyForm(posted(request), initial={"name": key.name, "networks": "\n".join(key.networks)})
    if request.method == "POST" and form.is_valid():
        try:
            is_new = api_keys.change(key, **form.cleaned_data, actor=member_of(request))
        except api_keys.NotChangeableError:
            messages.warning(
                request, f"“{key.name}” works no more, or is an export key. Make a new key instead."
            )
        else:
            saved = f"Saved. It holds for the next call of “{form.cleaned_data['name']}”."
            messages.success(request, saved if is_new else "Nothing was changed.")
        return redirect("api-key-list", slug)
    status = 422 if form.is_bound and form.errors else 200
    return render(request, "portal/api_key_change.html", {"key": key, "form": form}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def api_key_rotate(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Make a key that takes over from another; for a while both are let in."""
    application = application_for(request, slug, Permission.MANAGE_APPLICATION)
    key = get_object_or_404(ApiKey.objects.visible_to(application).select_related("application"), pk=pk)
    form = RotateApiKeyForm(posted(request))
    if request.method == "POST" and form.is_valid():
        try:
            new, text = api_keys.rotate(
                key,
                overlap=form.overlap,
                lifetime=form.lifetime,
                created_by=request.user,
                actor=member_of(request),
            )
        except api_keys.NotRotatableError:
            messages.warning(
                request, f"“{key.name}” works no more or was rotated before. Make a new key instead."
            )
            return redirect("api-key-list", slug)
        key.refresh_from_db()
        return render(request, "portal/api_key_created.html", {"key": new, "text": text, "old": key})
    status = 422 if form.is_bound and form.errors else 200
    return render(request, "portal/api_key_rotate.html", {"key": key, "form": form}, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def api_key_revoke(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Revoke a key: ask first."""
    application = application_for(request, slug, Permission.MANAGE_APPLICATION)
    key = get_object_or_404(ApiKey.objects.visible_to(application).select_related("application"), pk=pk)
    if request.method == "POST":
        if api_keys.revoke(key, actor=member_of(request)):
            messages.success(request, f"Revoked. Nobody gets in with “{key.name}” any more.")
        else:
            messages.info(request, f"“{key.name}” was revoked before.")
        return redirect("api-key-list", slug)
    return render(request, "portal/api_key_revoke.html", {"key": key})
