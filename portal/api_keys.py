"""Make API keys, recognise them, change where they may be used from, and take them back.

A key is ``dpk_<public id>_<secret><checksum>``. The prefix lets secret scanners find one that has leaked
(``dpk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}``), the public id is what it is looked up by, the secret has 256 random bits,
and the checksum tells a typo from a wrong key before the database is asked.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
import string
import zlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from portal.audit import record
from portal.models import ApiKey, Event
from portal.models.api_keys import KeyPermission
from portal.models.applications import digest
from portal.networks import is_inside

if TYPE_CHECKING:
    import uuid
    from collections.abc import Collection

    from portal.audit import Actor
    from portal.models import Application, User

logger = logging.getLogger(__name__)

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
ID_LENGTH = 12
# The smallest number of these characters that holds 256 bits.
SECRET_LENGTH = 43
CHECKSUM_LENGTH = 6
# A key anywhere in a text: what the API looks for where no key belongs, and secret scanners everywhere.
KEY_PATTERN = re.compile(
    rf"dpk_([0-9A-Za-z]{{{ID_LENGTH}}})_([0-9A-Za-z]{{{SECRET_LENGTH}}})([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})"
)
LIFETIME = timedelta(days=365)
# Of a key that takes refresh tokens out, whatever is asked for: long enough for one export.
EXPORT_LIFETIME = timedelta(days=1)
# How exactly the last use is known.
USE_NOTED_EVERY = timedelta(minutes=1)
# Compared with where there is no such key, so that both ways take the same time (C9).
_NOBODY = digest("no key has this digest")


class NotRotatableError(Exception):
    """The key works no more, or was rotated before."""


class NotChangeableError(Exception):
    """The key works no more, or takes refresh tokens out."""


class WrongNetworkError(Exception):
    """The key is right, and used from an address that is not in its IP ranges."""


def create(
    application: Application,
    *,
    name: str,
    permissions: Collection[str],
    provider_ids: Collection[str] = (),
    networks: Collection[str] = (),
    lifetime: timedelta = LIFETIME,
    created_by: User | None = None,
    actor: Actor,
) -> tuple[ApiKey, str]:
    """Make a key and return it with its text, which is not stored and can't be read again."""
    if KeyPermission.GRANTS_EXPORT in permissions:
        lifetime = min(lifetime, EXPORT_LIFETIME)
    public_id, secret = _random(ID_LENGTH), _random(SECRET_LENGTH)
    with transaction.atomic():
        key = ApiKey.objects.create(
            application=application,
            name=name,
            public_id=public_id,
            secret_digest=digest(secret),
            permissions=sorted(permissions),
            provider_ids=sorted(provider_ids),
            networks=list(networks),
            expires_at=Now() + lifetime,
            created_by=created_by,
        )
        key.refresh_from_db()
        record(
            Event.API_KEY_CREATED,
            actor=actor,
            application=application,
            subject=key,
            key=key.shown_id,
            permissions=key.permissions,
            providers=key.provider_ids,
            networks=key.networks,
            expires_at=key.expires_at.isoformat(),
        )
    body = f"dpk_{public_id}_{secret}"
    return key, body + checksum(body)


def rotate(
    key: ApiKey,
    *,
    overlap: timedelta,
    lifetime: timedelta = LIFETIME,
    created_by: User | None = None,
    actor: Actor,
) -> tuple[ApiKey, str]:
    """Make a key that takes over from another, and return it with its text. Both are let in for `overlap`.

    Then the old one ends, or earlier where it would have ended by itself. Raises NotRotatableError.
    """
    with transaction.atomic():
        key = (
            ApiKey.objects.with_clock()
            .select_related("application")
            .select_for_update(of=("self",))
            .get(pk=key.pk)
        )
        # A key to export is given anew by an owner, who proves who they are, each time.
        if key.revoked_at or key.is_expired or key.replaced_by_id or key.may_export:
            raise NotRotatableError
        new, text = create(
            key.application,
            name=key.name,
            permissions=key.permissions,
            provider_ids=key.provider_ids,
            networks=key.networks,
            lifetime=lifetime,
            created_by=created_by,
            actor=actor,
        )
        key.replaced_by = new
        key.expires_at = min(key.expires_at, key.now + overlap)
        key.save(update_fields=["replaced_by", "expires_at"])
        record(
            Event.API_KEY_ROTATED,
            actor=actor,
            application=key.application,
            subject=key,
            key=key.shown_id,
            replaced_by=new.shown_id,
            expires_at=key.expires_at.isoformat(),
        )
    return new, text


def change(key: ApiKey, *, name: str, networks: Collection[str], actor: Actor) -> bool:
    """Give a key another name and other IP ranges, which hold from the next call on, and tell whether that is new.

    What it may do stays: for more there is another key. Raises NotChangeableError.
    """
    with transaction.atomic():
        key = (
            ApiKey.objects.with_clock()
            .select_related("application")
            .select_for_update(of=("self",))
            .get(pk=key.pk)
        )
        # An owner proved who they are before they said from where a key to export may be used.
        if key.revoked_at or key.is_expired or key.may_export:
            raise NotChangeableError
        wanted: dict[str, Any] = {"name": name, "networks": list(networks)}
        changes = {
            field: [getattr(key, field), value]
            for field, value in wanted.items()
            if getattr(key, field) != value
        }
        if not changes:
            return False
        key.name, key.networks = wanted["name"], wanted["networks"]
        key.save(update_fields=list(wanted))
        record(
            Event.API_KEY_CHANGED,
            actor=actor,
            application=key.application,
            subject=key,
            key=key.shown_id,
            changes=changes,
        )
    return True


def revoke(key: ApiKey, *, actor: Actor) -> bool:
    """Let nobody in with a key from the next call on (D3), and tell whether that is new."""
    with transaction.atomic():
        if not ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=Now()):
            return False
        record(Event.API_KEY_REVOKED, actor=actor, application=key.application, subject=key, key=key.shown_id)
    return True


def recognise(presented: str, *, ip_address: str | None) -> ApiKey | None:
    """Return the working key that a text is, and note its use; None for every other text.

    Nothing tells why not: unknown, wrong, expired and revoked look the same (C9, D10). Raises WrongNetworkError for the
    right key from the wrong place: whoever has it is no stranger, and needs to know what to change.
    """
    parts = parse(presented)
    if parts is None:
        return None
    public_id, secret = parts
    found = ApiKey.objects.working().with_clock().select_related("application")
    key = found.filter(public_id=public_id).first()
    is_same = hmac.compare_digest(key.secret_digest if key else _NOBODY, digest(secret))
    if key is None or not is_same:
        return None
    if key.networks and not is_inside(ip_address, key.networks):
        logger.warning("The API key %s was refused at %s, outside its IP ranges.", key.shown_id, ip_address)
        raise WrongNetworkError
    if key.last_used_at is None or key.now - key.last_used_at > USE_NOTED_EVERY:
        note_use(key.pk, ip_address=ip_address)
    return key


def note_use(key_id: uuid.UUID | str, *, ip_address: str | None) -> None:
    """Note when and from where a key was used, once a minute: every call writing to one row would queue up for it."""
    is_due = Q(last_used_at=None) | Q(last_used_at__lt=Now() - USE_NOTED_EVERY)
    ApiKey.objects.filter(is_due, pk=key_id).update(last_used_at=Now(), last_used_ip=ip_address)


def parse(presented: str) -> tuple[str, str] | None:
    """Return the public id and the secret of a text that can be a key, or None: no database is asked for a typo."""
    match = KEY_PATTERN.fullmatch(presented)
    if match is None or checksum(presented[:-CHECKSUM_LENGTH]) != match[3]:
        return None
    return match[1], match[2]


def checksum(text: str) -> str:
    """Return six characters that catch typos; no protection against anybody who means it."""
    number = zlib.crc32(text.encode())
    letters = ""
    for _ in range(CHECKSUM_LENGTH):
        number, rest = divmod(number, len(ALPHABET))
        letters = ALPHABET[rest] + letters
    return letters


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
