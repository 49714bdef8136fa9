"""People, applications, and what was done."""

from portal.models.applications import Application, ApplicationLogo, Invitation, Membership, Role
from portal.models.audit import AuditEvent, Event
from portal.models.instance import Instance
from portal.models.keys import KeyCheck
from portal.models.people import User

__all__ = [
    "Application",
    "ApplicationLogo",
    "AuditEvent",
    "Event",
    "Instance",
    "Invitation",
    "KeyCheck",
    "Membership",
    "Role",
    "User",
]
