"""Tell an application's owners, once, that we no longer send to one of its endpoints (F5)."""

from __future__ import annotations

import logging
from datetime import timedelta
from smtplib import SMTPException
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.template.loader import render_to_string

from portal.instance import is_foreign
from portal.models import Role, WebhookEndpoint
from portal.models.webhooks import DisabledReason

if TYPE_CHECKING:
    import uuid

    from django.db.models import QuerySet

logger = logging.getLogger(__name__)

# Whoever mails about an endpoint has it to itself for so long, which is longer than a mail server may take.
LEASE = timedelta(minutes=5)


def mail_about_disabled() -> None:
    """Send the mails that are due.

    One that no mail server takes, or whose worker is killed, is due again when the lease is over: so a mail can come
    twice, where the worker was killed just after sending, and none is lost.
    """
    if is_foreign():
        return
    for pk in list(_unmailed().values_list("pk", flat=True)[:100]):
        endpoint = _take(pk)
        if endpoint and _send(endpoint):
            # Not if it was enabled meanwhile: should it be disabled once more, that is news.
            WebhookEndpoint.objects.filter(pk=pk, disabled_at=endpoint.disabled_at).update(mailed_at=Now())


def _take(pk: uuid.UUID) -> WebhookEndpoint | None:
    """Take an endpoint for the lease; None where another worker has it. Nothing is sent to it, so its pause is free."""
    with transaction.atomic():
        endpoint = (
            _unmailed().select_for_update(of=("self",), no_key=True, skip_locked=True).filter(pk=pk).first()
        )
        if endpoint:
            WebhookEndpoint.objects.filter(pk=pk).update(paused_until=Now() + LEASE)
    return endpoint


def _unmailed() -> QuerySet[WebhookEndpoint]:
    return WebhookEndpoint.objects.select_related("application").filter(
        Q(paused_until=None) | Q(paused_until__lte=Now()),
        disabled_reason__in=[DisabledReason.GONE, DisabledReason.FAILING],
        mailed_at=None,
    )


def _send(endpoint: WebhookEndpoint) -> bool:
    owners = endpoint.application.memberships.filter(role=Role.OWNER, user__is_active=True)
    addresses = sorted(owners.values_list("user__email", flat=True))
    context = {
        "endpoint": endpoint,
        "application": endpoint.application,
        "url": settings.PUBLIC_URL + endpoint.get_absolute_url(),
        "is_gone": endpoint.disabled_reason == DisabledReason.GONE,
    }
    subject = " ".join(render_to_string("email/webhook_disabled_subject.txt", context).split())
    text = render_to_string("email/webhook_disabled.txt", context)
    if not addresses:
        return True
    try:
        # To all at once: half of a list would be sent twice.
        send_mail(subject, text, None, addresses)
    except (OSError, SMTPException) as error:
        logger.warning("The mail about endpoint %s could not be sent: %s", endpoint.pk, type(error).__name__)
        return False
    return True
