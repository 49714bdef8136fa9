"""Tell an application's owners by e-mail when a provider stops working, once, and when it works again, once.

What was told is compared with what is: no event is needed, so none can be lost. Whoever sends takes the alert for itself
for a while, so two workers send one mail, and no transaction waits for a mail server. A worker killed after sending
leaves a mail that comes twice: better than one that never comes.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from smtplib import SMTPException
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.template.loader import render_to_string
from django.urls import reverse

from portal.instance import is_foreign
from portal.models import Role
from providers.models import STOPPING_PROBLEMS, ProviderConfig
from providers.provider_alert import ProviderAlert

if TYPE_CHECKING:
    import uuid

    from django.db.models import QuerySet

logger = logging.getLogger(__name__)

# Not more than one mail about a problem, and one about its end, in so long: a provider that comes and goes is no flood.
QUIET = timedelta(minutes=30)
# How long to wait after a mail server did not take a mail: doubled each time, up to the longest.
PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
# Whoever mails about a provider has it to itself for so long, which is longer than a mail server may take.
LEASE = timedelta(minutes=5)
AT_ONCE = 100

_WORKING = Q(provider_config__is_enabled=True, provider_config__application__archived_at=None)
_IS_NEWS = ~Q(told_problem=F("provider_config__problem_code"))


def tell_owners() -> None:
    """Send the mails that are due. Doing it twice, or on ten machines, sends each once."""
    if is_foreign():
        return
    never_told = ProviderConfig.objects.filter(alert=None).exclude(problem_code="")
    ProviderAlert.objects.bulk_create(
        [ProviderAlert(provider_config_id=pk) for pk in never_told.values_list("pk", flat=True)[:AT_ONCE]],
        ignore_conflicts=True,
    )
    for pk in list(_due().values_list("pk", flat=True)[:AT_ONCE]):
        if alert := _take(pk):
            _tell(alert)


def _take(pk: uuid.UUID) -> ProviderAlert | None:
    """Take an alert for the lease; None where another worker has it, or there is nothing to tell any more."""
    with transaction.atomic():
        alert = (
            _due()
            .select_for_update(of=("self",), no_key=True, skip_locked=True)
            .select_related("provider_config__application")
            .filter(pk=pk)
            .first()
        )
        if alert is not None:
            ProviderAlert.objects.filter(pk=pk).update(next_try_at=Now() + LEASE)
    return alert


def _due() -> QuerySet[ProviderAlert]:
    """Return the alerts whose owners do not know how things stand, and may be told now."""
    is_quiet_over = Q(problem_told_at=None) | Q(problem_told_at__lt=Now() - QUIET)
    may_try = Q(next_try_at=None) | Q(next_try_at__lte=Now())
    return ProviderAlert.objects.filter(
        _WORKING, _IS_NEWS, may_try, is_quiet_over | Q(provider_config__problem_code="")
    ).order_by("pk")


def _tell(alert: ProviderAlert) -> None:
    config = alert.provider_config
    if not _send(alert):
        pause = min(PAUSE * 2**alert.failed_tries, LONGEST_PAUSE)
        ProviderAlert.objects.filter(pk=alert.pk).update(
            failed_tries=min(alert.failed_tries + 1, 10), next_try_at=Now() + pause
        )
        return
    told = ProviderAlert.objects.filter(pk=alert.pk)
    told.update(told_problem=config.problem_code, failed_tries=0, next_try_at=None)
    if config.problem_code:
        told.update(problem_told_at=Now())


def _send(alert: ProviderAlert) -> bool:
    """Mail all owners at once, and tell whether the mail server took it."""
    config = alert.provider_config
    application = config.application
    owners = application.memberships.filter(role=Role.OWNER, user__is_active=True)
    addresses = sorted(owners.values_list("user__email", flat=True))
    if not addresses:
        return True
    context = {
        "config": config,
        "application": application,
        "is_over": not config.problem_code,
        "stops_refreshing": config.problem_code in STOPPING_PROBLEMS,
        "provider_url": settings.PUBLIC_URL + config.get_absolute_url(),
        "health_url": f"{settings.PUBLIC_URL}{reverse('health', args=[application.slug])}",
    }
    subject = " ".join(render_to_string("email/provider_alert_subject.txt", context).split())
    try:
        send_mail(subject, render_to_string("email/provider_alert.txt", context), None, addresses)
    except (OSError, SMTPException) as error:
        logger.warning("The mail about %s could not be sent: %s", config.pk, type(error).__name__)
        return False
    return True
