"""Links to an end user's own page."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from portal.models import Application


class ManageLink(models.Model):
    """A link with which an application lets its end user look at their connections; the first browser keeps it.

    Nothing in it can be used as a credential: link and cookie are stored as digests.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="manage_links")
    end_user = models.CharField(max_length=200)
    # Those of the key that made it; none means all.
    provider_ids = ArrayField(models.CharField(max_length=50), default=list)
    return_url = models.URLField(max_length=2000, blank=True)
    link_digest = models.CharField(max_length=64, unique=True, editable=False)
    # The browser that opened it first.
    browser_digest = models.CharField(max_length=64, blank=True, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    # Until then it must be opened; once it is, this is when the page closes.
    expires_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["expires_at"], name="manage_link_expiry")]

    def __str__(self) -> str:
        return f"{self.end_user} at {self.created_at:%Y-%m-%d %H:%M}"
