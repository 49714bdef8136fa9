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
    """A token of a revoked grant that its provider has not ended yet; erased when it has, or when we give up.

    It outlives what it came from: when a provider or an application is deleted, it takes along what it takes to ask.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # None of the three need exist any more, so the database checks nothing: a deletion of a hundred thousand would wait.
    # The sealed columns are bound to the application all the same.
    application = models.ForeignKey(
        Application, null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    provider_config = models.ForeignKey(
        ProviderConfig, null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    grant = models.ForeignKey(
        Grant,
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        related_name="upstream_revocations",
    )
    token = SealedField()
    # Of a configuration that is deleted: its provider, and its client ID and secret as JSON.
    provider_id = models.CharField(max_length=50, blank=True, db_default="")
    client = SealedField()
    tries = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(db_default=Now())
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["next_try_at"], name="upstream_revocation_due")]

    def __str__(self) -> str:
        return str(self.grant_id)

    def tenant_id(self) -> uuid.UUID:
        """Return what the sealed columns are bound to."""
        assert self.application_id is not None
        return self.application_id
