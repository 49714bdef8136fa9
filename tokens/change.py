"""Change what an application may write on a grant: its label and its metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from portal.audit import Actor, record
from portal.models import Event
from tokens.models import Grant
from tokens.store import search_text

if TYPE_CHECKING:
    from collections.abc import Mapping


def change(grant: Grant, *, label: str | None, metadata: Mapping[str, str] | None, actor: Actor) -> None:
    """Write a label, metadata, or both; None leaves it as it is. Nothing new writes nothing."""
    with transaction.atomic():
        grant = Grant.objects.select_for_update(of=("self",)).select_related("application").get(pk=grant.pk)
        changes: dict[str, object] = {}
        if label is not None and label != grant.label:
            changes["label"] = [grant.label, label]
            grant.label = label
            grant.search_text = search_text(grant, grant.sites.filter(is_chosen=True))
        if metadata is not None and metadata != grant.metadata:
            # The names alone: what stands there is the application's, and the log is kept for good.
            changes["metadata"] = [sorted(grant.metadata), sorted(metadata)]
            grant.metadata = dict(metadata)
        if changes:
            grant.save(update_fields=["label", "search_text", "metadata"])
            record(
                Event.GRANT_CHANGED,
                actor=actor,
                application=grant.application,
                subject=grant,
                changes=changes,
            )
