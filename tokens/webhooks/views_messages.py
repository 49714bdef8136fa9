"""Pages of webhook messages: one message with its tries, a test, sending again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from django.contrib import messages
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from portal.access import Permission, application_for
from portal.audit import member_of
from portal.models import WebhookEndpoint, WebhookMessage
from portal.models.webhooks import MessageStatus
from tokens.clock import database_now
from tokens.models import Grant
from tokens.webhooks import endpoints
from tokens.webhooks.log import attempt_state, message_state

if TYPE_CHECKING:
    import uuid

    from django.http import HttpResponse

    from portal.models import Application
    from portal.requests import PortalRequest

MOST_ATTEMPTS = 50
STOP_POLLING = 286


@require_safe
def webhook_message(request: PortalRequest, slug: str, uid: uuid.UUID) -> HttpResponse:
    """Show a message: what is sent, each try and its answer, and when the next one is due."""
    application = application_for(request, slug)
    message = _message_or_404(application, uid)
    now = database_now()
    is_under_way = bool(message.claim_until and message.claim_until > now)
    attempts = [
        (attempt, attempt_state(attempt, is_under_way=is_under_way and attempt.number == message.tries))
        for attempt in message.attempts.order_by("-number")[:MOST_ATTEMPTS]
    ]
    is_pending = message.status == MessageStatus.PENDING
    context = {
        "message": message,
        "grant": Grant.objects.visible_to(application)
        .filter(pk__in=[message.subject_id])
        .select_related("application")
        .first(),
        "endpoint": message.endpoint,
        "state": message_state(message, now),
        "body": json.dumps(json.loads(message.body), indent=2, ensure_ascii=False),
        "attempts": attempts,
        "is_pending": is_pending,
        "is_under_way": is_under_way,
        "is_due": is_pending and message.next_attempt_at is not None and message.next_attempt_at <= now,
    }
    if not request.htmx:
        return render(request, "webhooks/webhook_message.html", context)
    # htmx stops asking at 286: nothing changes any more.
    return render(
        request, "webhooks/webhook_message.html#live", context, status=200 if is_pending else STOP_POLLING
    )


@require_POST
def webhook_test(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Send a test message, and show what comes of it."""
    application = application_for(request, slug, Permission.MANAGE_WEBHOOKS)
    endpoint = _endpoint_or_404(application, pk)
    try:
        message = endpoints.send_test(endpoint, actor=member_of(request))
    except endpoints.EndpointDisabledError:
        messages.error(request, f"“{endpoint.name}” is disabled, so nothing is sent. Enable it first.")
        return redirect(endpoint)
    return redirect("webhook-message", slug, message.uid)


@require_POST
def webhook_redeliver(request: PortalRequest, slug: str, uid: uuid.UUID) -> HttpResponse:
    """Send a message once more."""
    application = application_for(request, slug, Permission.MANAGE_WEBHOOKS)
    message = _message_or_404(application, uid)
    try:
        endpoints.redeliver(message, actor=member_of(request))
    except endpoints.EndpointDisabledError:
        messages.error(
            request, f"“{message.endpoint.name}” is disabled, so nothing is sent. Enable it first."
        )
    return redirect("webhook-message", slug, uid)


@require_POST
def webhook_redeliver_failed(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Send everything once more that was given up."""
    application = application_for(request, slug, Permission.MANAGE_WEBHOOKS)
    endpoint = _endpoint_or_404(application, pk)
    try:
        number = endpoints.redeliver_failed(endpoint, actor=member_of(request))
    except endpoints.EndpointDisabledError:
        messages.error(request, f"“{endpoint.name}” is disabled, so nothing is sent. Enable it first.")
    else:
        what = "1 message is" if number == 1 else f"{number} messages are"
        messages.success(request, f"{what} sent again." if number else "Nothing has failed.")
    return redirect(endpoint)


def _endpoint_or_404(application: Application, pk: uuid.UUID) -> WebhookEndpoint:
    endpoint = get_object_or_404(WebhookEndpoint.objects.visible_to(application), pk=pk)
    endpoint.application = application
    return endpoint


def _message_or_404(application: Application, uid: uuid.UUID) -> WebhookMessage:
    rows = WebhookMessage.objects.filter(endpoint__application=application).select_related("endpoint")
    message = get_object_or_404(rows, uid=uid)
    message.endpoint.application = application
    return message
