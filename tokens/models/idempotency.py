"""Answers kept for a day, so that a call that is sent again is carried out once."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Now

from portal.encryption import SealedField
from portal.models import ApiKey


class KeptAnswer(models.Model):
    """One call with an Idempotency-Key: what was asked, and what was answered once it was.

    The answer is sealed: it may hold a link. Without one the call is under way, or its process was killed.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=255, help_text="The caller's Idempotency-Key.")
    # SHA-256 of method, address and body.
    request_digest = models.CharField(max_length=64, editable=False)
    answer = SealedField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    # Until then the first caller has it to itself.
    held_until = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["api_key", "name"], name="one_answer_a_name")]
        indexes = [models.Index(fields=["created_at"], name="kept_answer_by_time")]

    def __str__(self) -> str:
        return str(self.pk)

    def tenant_id(self) -> uuid.UUID:
        """Return what its sealed column is bound to."""
        return self.api_key.application_id
