"""Create, change, archive, restore and delete applications, each with its audit event."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils.text import slugify

from portal.audit import record
from portal.logo import logo_digest
from portal.models import Application, ApplicationLogo, Event, Membership, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from portal.audit import Actor
    from portal.models import User

# Called before an application is deleted, outside any transaction: apps above this one take back upstream what the
# application holds there. They register in AppConfig.ready; one that raises stops the deletion.
before_delete: list[Callable[[Application, Actor], None]] = []

SLUG_LENGTH = 50
# Words that are, or may become, addresses of ours below /applications/.
RESERVED_SLUGS = frozenset({"new", "archived", "import", "search"})


class SlugTakenError(Exception):
    """Another application has this slug."""


def propose_slug(name: str) -> str:
    """Return a free slug made from a name: "Acme Tasks" gives acme-tasks, or acme-tasks-2 where that is taken."""
    stem = slugify(name)[: SLUG_LENGTH - 5].strip("-_").replace("_", "-") or "application"
    taken = (
        set(Application.objects.filter(slug__startswith=stem).values_list("slug", flat=True)) | RESERVED_SLUGS
    )
    candidates = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    return next(slug for slug in candidates if slug not in taken)


def create(*, name: str, slug: str, owner: User, actor: Actor) -> Application:
    """Make an application with its first owner. Raises SlugTakenError."""
    try:
        with transaction.atomic():
            application = Application.objects.create(name=name, slug=slug)
            Membership.objects.create(application=application, user=owner, role=Role.OWNER)
            record(
                Event.APPLICATION_CREATED,
                actor=actor,
                application=application,
                subject=application,
                slug=slug,
            )
    except IntegrityError:
        raise SlugTakenError(slug) from None
    return application


def change(
    application: Application,
    *,
    name: str,
    return_origins: list[str],
    logo: bytes | None = None,
    is_logo_removed: bool = False,
    actor: Actor,
) -> bool:
    """Change what may be changed and tell whether anything did. `logo` is what portal.logo.make_logo returned."""
    changes: dict[str, Any] = {}
    if name != application.name:
        changes["name"] = [application.name, name]
    if return_origins != application.return_origins:
        changes["return_origins"] = [application.return_origins, return_origins]
    digest = logo_digest(logo) if logo else "" if is_logo_removed else application.logo_digest
    if digest != application.logo_digest:
        changes["logo"] = ["set" if application.logo_digest else "none", "set anew" if digest else "none"]
    if not changes:
        return False
    application.name, application.return_origins, application.logo_digest = name, return_origins, digest
    with transaction.atomic():
        application.save(update_fields=["name", "return_origins", "logo_digest"])
        if "logo" in changes and logo:
            ApplicationLogo.objects.update_or_create(application=application, defaults={"png": logo})
        elif "logo" in changes:
            ApplicationLogo.objects.filter(application=application).delete()
        record(
            Event.APPLICATION_CHANGED,
            actor=actor,
            application=application,
            subject=application,
            changes=changes,
        )
    return True


def archive(application: Application, *, actor: Actor) -> bool:
    """Stop connecting, refreshing and handing out, and lose nothing. Tell whether that is new."""
    with transaction.atomic():
        is_new = (
            Application.objects.filter(pk=application.pk, archived_at=None).update(archived_at=Now()) == 1
        )
        if is_new:
            record(Event.APPLICATION_ARCHIVED, actor=actor, application=application, subject=application)
    # None, too, where another request has deleted it meanwhile.
    application.archived_at = (
        Application.objects.filter(pk=application.pk).values_list("archived_at", flat=True).first()
    )
    return is_new


def restore(application: Application, *, actor: Actor) -> bool:
    """Let an archived application work again. Tell whether that is new."""
    archived = Application.objects.filter(pk=application.pk, archived_at__isnull=False)
    with transaction.atomic():
        is_new = archived.update(archived_at=None) == 1
        if is_new:
            record(Event.APPLICATION_RESTORED, actor=actor, application=application, subject=application)
    application.refresh_from_db(fields=["archived_at"])
    return is_new


def contents(application: Application) -> dict[str, int]:
    """Count what a deletion would take along: members, providers and connections."""
    return {
        "members": application.memberships.count(),
        "providers": application.provider_configs.count(),
        "connections": application.grants.exclude(status="revoked").count(),
    }


def delete(application: Application, *, actor: Actor) -> None:
    """Delete an application and everything in it; the audit log stays.

    It is archived first, so that nothing new comes in while tokens are taken back upstream, or as little as can be.
    """
    archive(application, actor=actor)
    counts = contents(application)
    while True:
        for take_back in before_delete:
            take_back(application, actor)
        with transaction.atomic():
            # Nobody can store a connection of it from here on. An import may have done so just before.
            if not Application.objects.select_for_update().filter(pk=application.pk).exists():
                # By a second press of the button, which is told the same.
                return
            if application.grants.exists():
                continue
            record(
                Event.APPLICATION_DELETED,
                actor=actor,
                application=application,
                subject=application,
                slug=application.slug,
                went_with_it=counts,
            )
            application.delete()
            return
