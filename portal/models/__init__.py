"""People, applications, and what was done."""

from portal.models.api_keys import ApiKey
from portal.models.applications import Application, ApplicationLogo, Invitation, Membership, Role
from portal.models.audit import AuditEvent, Event
from portal.models.audit_seals import AuditKey, AuditSeal
from portal.models.instance import Instance
from portal.models.keys import KeyCheck
from portal.models.people import User
from portal.models.webhooks import WebhookAttempt, WebhookEndpoint, WebhookMessage, WebhookType

__all__ = [
    "ApiKey",
    "Application",
    "ApplicationLogo",
    "AuditEvent",
    "AuditKey",
    "AuditSeal",
    "Event",
    "Instance",
    "Invitation",
    "KeyCheck",
    "Membership",
    "Role",
    "User",
    "WebhookAttempt",
    "WebhookEndpoint",
    "WebhookMessage",
    "WebhookType",
]
