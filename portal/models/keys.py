"""One known sealed word for each master key in use, see portal/keycheck.py."""

from django.db import models
from django.db.models.functions import Now

from portal.encryption import SealedField


class KeyCheck(models.Model):
    """A canary: it opens only with the key that data was encrypted with."""

    key_id = models.CharField(primary_key=True, max_length=32)
    word = SealedField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "key check"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.key_id

    def tenant_id(self) -> str:
        """Belong to no application."""
        return "portal"
