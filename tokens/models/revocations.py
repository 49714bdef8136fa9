"""What must still be ended at a provider."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Now

from portal.encryption import SealedField
from portal.models import Application
from providers.models import ProviderConfig
from tokens.models.grants import Grant


class UpstreamRevocation(models.Model):
    """A token of a revoked grant that its provider has not ended yet; erased when it has, or when we give up."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="+")
    provider_config = models.ForeignKey(ProviderConfig, on_delete=models.CASCADE, related_name="+")
    grant = models.ForeignKey(Grant, on_delete=models.CASCADE, related_name="upstream_revocations")
    token = SealedField()
    tries = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["next_try_at"], name="upstream_revocation_due")]

    def __str__(self) -> str:
        return str(self.grant_id)

    def tenant_id(self) -> uuid.UUID:
        """Return what the sealed column is bound to."""
        return self.application_id
