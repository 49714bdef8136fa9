"""Seals over the audit log, see portal/audit_seals.py."""

from django.db import models
from django.db.models.functions import Now

from portal.encryption import SealedField


class AuditSeal(models.Model):
    """What all audit events were like from the seal before until this one. Rows are added, never changed."""

    until = models.DateTimeField(
        unique=True, help_text="Exclusive. The seal before ends where this one begins."
    )
    events = models.PositiveBigIntegerField(help_text="How many there were, for the words of check_audit.")
    digest = models.BinaryField(max_length=32)
    sealed_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "audit seal"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"until {self.until:%Y-%m-%d %H:%M:%S} UTC"


class AuditKey(models.Model):
    """The one key that seals are made with, itself encrypted: rotating ENCRYPTION_KEYS changes no seal."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    key = SealedField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "audit key"
        default_permissions = ("view",)
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="only_one_audit_key")]

    def __str__(self) -> str:
        return "audit key"

    def tenant_id(self) -> str:
        """Belong to no application."""
        return "portal"
