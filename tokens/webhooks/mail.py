"""Tell an application's owners, once, that we no longer send to one of its endpoints (F5)."""

from __future__ import annotations

import logging
from smtplib import SMTPException
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models.functions import Now
from django.template.loader import render_to_string

from portal.instance import is_foreign
from portal.models import Role, WebhookEndpoint
from portal.models.webhooks import DisabledReason

if TYPE_CHECKING:
    from django.db.models import QuerySet

logger = logging.getLogger(__name__)


def mail_about_disabled() -> None:
    """Send the mails that are due; one that no mail server takes is tried again at the next housekeeping."""
    if is_foreign():
        return
    for pk in list(_unmailed().values_list("pk", flat=True)[:100]):
        with transaction.atomic():
            endpoint = (
                _unmailed()
                .select_for_update(of=("self",), no_key=True, skip_locked=True)
                .filter(pk=pk)
                .first()
            )
            if endpoint and _send(endpoint):
                WebhookEndpoint.objects.filter(pk=pk).update(mailed_at=Now())


def _unmailed() -> QuerySet[WebhookEndpoint]:
    return WebhookEndpoint.objects.select_related("application").filter(
        disabled_reason__in=[DisabledReason.GONE, DisabledReason.FAILING], mailed_at=None
    )


def _send(endpoint: WebhookEndpoint) -> bool:
    owners = endpoint.application.memberships.filter(role=Role.OWNER, user__is_active=True)
    addresses = list(owners.values_list("user__email", flat=True))
    context = {
        "endpoint": endpoint,
        "application": endpoint.application,
        "url": settings.PUBLIC_URL + endpoint.get_absolute_url(),
        "is_gone": endpoint.disabled_reason == DisabledReason.GONE,
    }
    subject = " ".join(render_to_string("email/webhook_disabled_subject.txt", context).split())
    text = render_to_string("email/webhook_disabled.txt", context)
    try:
        for address in addresses:
            send_mail(subject, text, None, [address])
    except (OSError, SMTPException) as error:
        logger.warning("The mail about endpoint %s could not be sent: %s", endpoint.pk, type(error).__name__)
        return False
    return True
