"""The mail with an invitation's link."""

from __future__ import annotations

import logging
from smtplib import SMTPException
from typing import TYPE_CHECKING

from django.core.mail import send_mail
from django.template.loader import render_to_string

if TYPE_CHECKING:
    from portal.invitations import Invited
    from portal.models import User

logger = logging.getLogger(__name__)


def send_invitation(invited: Invited, *, by: User) -> bool:
    """Mail the link, after the invitation is committed, and tell whether the mail server took it.

    A mail server that does not answer must not undo the invitation: its link can be passed on by hand.
    """
    invitation = invited.invitation
    context = {
        "invitation": invitation,
        "application": invitation.application,
        "by": by,
        "url": invited.mailed_url,
    }
    subject = " ".join(render_to_string("email/invitation_subject.txt", context).split())
    try:
        send_mail(subject, render_to_string("email/invitation.txt", context), None, [invitation.email])
    except (OSError, SMTPException) as error:
        logger.warning("The invitation %s could not be mailed: %s", invitation.pk, type(error).__name__)
        return False
    return True
