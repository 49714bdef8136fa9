"""Pages of webhook endpoints: list, make, change, rotate the secret, switch off and on, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal.access import Permission, application_for
from portal.audit import member_of
from portal.models import WebhookEndpoint, WebhookType
from portal.models.webhooks import TEST_TYPE, DisabledReason, MessageStatus
from portal.requests import posted
from tokens.clock import database_now
from tokens.webhooks import endpoints
from tokens.webhooks.forms import EndpointForm, LogForm, RotateForm
from tokens.webhooks.log import endpoint_state, log_page

if TYPE_CHECKING:
    import uuid

    from django.http import HttpResponse

    from portal.models import Application
    from portal.requests import PortalRequest

MANAGE = Permission.MANAGE_WEBHOOKS


@require_safe
def webhook_list(request: PortalRequest, slug: str) -> HttpResponse:
    """List the endpoints, and how they stand."""
    application = application_for(request, slug)
    rows = [
        (endpoint, endpoint_state(endpoint)) for endpoint in WebhookEndpoint.objects.visible_to(application)
    ]
    return render(request, "webhooks/webhook_list.html", {"rows": rows, "all_types": len(WebhookType)})


@require_http_methods(["GET", "HEAD", "POST"])
def webhook_create(request: PortalRequest, slug: str) -> HttpResponse:
    """Make an endpoint. Its secret is shown in the answer to the POST, once."""
    application = application_for(request, slug, MANAGE)
    form = EndpointForm(posted(request))
    if request.method == "POST" and form.is_valid():
        try:
            endpoint, secret = endpoints.create(
                application, **form.cleaned_data, created_by=request.user, actor=member_of(request)
            )
        except endpoints.TooManyEndpointsError:
            form.add_error(
                None,
                f"{application.name} has {endpoints.MOST_ENDPOINTS} endpoints, and that is the most. "
                "Delete one that is no longer needed.",
            )
        else:
            return render(request, "webhooks/webhook_secret.html", {"endpoint": endpoint, "secret": secret})
    status = 422 if form.is_bound and form.errors else 200
    return render(request, "webhooks/webhook_create.html", {"form": form}, status=status)


@require_safe
def webhook_detail(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Show an endpoint and its delivery log."""
    application = application_for(request, slug)
    endpoint = _endpoint_or_404(application, pk)
    form = LogForm(request.GET)
    status = form.cleaned_data["status"] if form.is_valid() else ""
    now = database_now()
    page = log_page(
        endpoint, status=status, before=_number(request, "before"), after=_number(request, "after"), now=now
    )
    waiting = endpoint.messages.filter(status=MessageStatus.PENDING)[:1000].count()
    failed = endpoint.messages.filter(status=MessageStatus.FAILED).exclude(type=TEST_TYPE)
    context = {
        "endpoint": endpoint,
        "state": endpoint_state(endpoint),
        "has_earlier_secret": bool(endpoint.earlier_secret_until and endpoint.earlier_secret_until > now),
        "form": form,
        "status": status,
        "page": page,
        "waiting": waiting,
        "has_failed": failed.exists(),
        "newer_url": _page_url(status, "after", page.newer),
        "older_url": _page_url(status, "before", page.older),
    }
    return render(request, "webhooks/webhook_detail.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def webhook_change(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Change an endpoint's name, address and what it is told of."""
    application = application_for(request, slug, MANAGE)
    endpoint = _endpoint_or_404(application, pk)
    initial = {"name": endpoint.name, "url": endpoint.url, "types": endpoint.types}
    form = EndpointForm(posted(request), initial=initial)
    if request.method == "POST" and form.is_valid():
        if endpoints.change(endpoint, **form.cleaned_data, actor=member_of(request)):
            messages.success(request, "Saved.")
        else:
            messages.info(request, "Nothing was changed.")
        return redirect(endpoint)
    context = {"endpoint": endpoint, "form": form}
    status = 422 if form.is_bound and form.errors else 200
    return render(request, "webhooks/webhook_change.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
def webhook_rotate(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Rotate the secret: ask for how long the earlier one goes on, then show the new one, once."""
    application = application_for(request, slug, MANAGE)
    endpoint = _endpoint_or_404(application, pk)
    form = RotateForm(posted(request))
    if request.method == "POST" and form.is_valid():
        secret = endpoints.rotate(endpoint, overlap=form.overlap, actor=member_of(request))
        context = {"endpoint": endpoint, "secret": secret, "is_rotated": True}
        return render(request, "webhooks/webhook_secret.html", context)
    context = {"endpoint": endpoint, "form": form}
    status = 422 if form.is_bound and form.errors else 200
    return render(request, "webhooks/webhook_rotate.html", context, status=status)


@require_POST
def webhook_disable(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Send nothing more until it is enabled again."""
    application = application_for(request, slug, MANAGE)
    endpoint = _endpoint_or_404(application, pk)
    endpoints.disable(endpoint, reason=DisabledReason.MEMBER, actor=member_of(request))
    messages.success(
        request, f"Disabled. Nothing is sent to “{endpoint.name}”, and nothing new is kept for it."
    )
    return redirect(endpoint)


@require_POST
def webhook_enable(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Send again, beginning with what waits."""
    application = application_for(request, slug, MANAGE)
    endpoint = _endpoint_or_404(application, pk)
    endpoints.enable(endpoint, actor=member_of(request))
    messages.success(request, f"Enabled. “{endpoint.name}” is told again.")
    return redirect(endpoint)


@require_http_methods(["GET", "HEAD", "POST"])
def webhook_delete(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Delete an endpoint: ask first."""
    application = application_for(request, slug, MANAGE)
    endpoint = _endpoint_or_404(application, pk)
    if request.method == "POST":
        endpoints.delete(endpoint, actor=member_of(request))
        messages.success(request, f"Deleted. “{endpoint.name}” is told nothing more.")
        return redirect("webhook-list", slug)
    return render(request, "webhooks/webhook_delete.html", {"endpoint": endpoint})


def _endpoint_or_404(application: Application, pk: uuid.UUID) -> WebhookEndpoint:
    endpoint = get_object_or_404(
        WebhookEndpoint.objects.visible_to(application).select_related("created_by"), pk=pk
    )
    endpoint.application = application
    return endpoint


def _number(request: PortalRequest, name: str) -> int | None:
    text = request.GET.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _page_url(status: str, name: str, cursor: int | None) -> str:
    return f"?{f'status={status}&' if status else ''}{name}={cursor}" if cursor else ""
