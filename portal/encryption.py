"""Encryption at rest: AES-256-GCM, a key per row, and a key ring that can be rotated online.

A sealed value is ``0x01 | length of key id | key id | 96-bit nonce | ciphertext and tag``. The row's key is derived
with HKDF-SHA256 from the master key that the key id names, and the associated data names tenant, table, column and
row, so a ciphertext that was moved anywhere else does not open. Master keys come from the environment
(``ENCRYPTION_KEYS``) and are never in the database.
"""

from __future__ import annotations

import base64
import functools
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT = 1
NONCE_BYTES = 12
KEY_BYTES = 32


class UnreadableError(Exception):
    """A sealed value does not open: wrong key, damaged, or moved from another row.

    All three look the same from outside (C12).
    """


@dataclass(frozen=True)
class Place:
    """Where a sealed value lives. A value sealed for one place opens nowhere else (C3)."""

    table: str
    column: str
    row: str
    tenant: str

    def associated_data(self, header: bytes) -> bytes:
        """Name the place without ambiguity, whatever characters its parts hold."""
        return header + json.dumps([self.tenant, self.table, self.column, self.row]).encode()


class KeyRing:
    """The master keys by id; the first one seals, every one opens."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        if not keys:
            raise ImproperlyConfigured("ENCRYPTION_KEYS is empty: set it to id:base64 of 32 random bytes.")
        # HKDF's first half (RFC 5869, section 2.2) depends on the master key alone; the second makes each row's key.
        self._keys = {key_id: HKDF.extract(SHA256(), None, key) for key_id, key in keys.items()}
        self.current = next(iter(keys))
        # The engine opens and seals the same row's values within a second; this holds no more than the master keys give.
        self._cipher = functools.lru_cache(maxsize=1024)(self._derive)

    @classmethod
    def parse(cls, items: list[str]) -> KeyRing:
        """Read ``["id:base64", …]``. Raises ImproperlyConfigured naming the key id, never the key."""
        keys: dict[str, bytes] = {}
        for item in items:
            key_id, _, text = item.strip().partition(":")
            if not key_id or not key_id.isascii() or len(key_id) > 32:
                raise ImproperlyConfigured(
                    "ENCRYPTION_KEYS: every key needs an id of 1 to 32 letters, then ':'."
                )
            try:
                key = base64.b64decode(text, validate=True)
            except ValueError:  # Not base64, or not ASCII at all.
                raise ImproperlyConfigured(f"ENCRYPTION_KEYS: key '{key_id}' is not valid base64.") from None
            if len(key) != KEY_BYTES:
                raise ImproperlyConfigured(
                    f"ENCRYPTION_KEYS: key '{key_id}' must be 32 bytes, it has {len(key)}."
                )
            if key_id in keys:
                raise ImproperlyConfigured(f"ENCRYPTION_KEYS: the key id '{key_id}' stands there twice.")
            keys[key_id] = key
        return cls(keys)

    def __repr__(self) -> str:
        return f"KeyRing({list(self._keys)})"

    def __contains__(self, key_id: str) -> bool:
        return key_id in self._keys

    def seal(self, plaintext: str, place: Place) -> bytes:
        """Encrypt text for one place with the current key and a fresh random nonce (C2)."""
        return self.seal_all([(plaintext, place)])[0]

    def seal_all(self, values: Sequence[tuple[str, Place]]) -> list[bytes]:
        """Encrypt many texts, each for its place and with a random nonce of its own (C2).

        The nonces are drawn together: each drawing hands the interpreter to another thread, and waiting for it to come
        back takes longer than sealing.
        """
        header = header_of(self.current)
        nonces = os.urandom(NONCE_BYTES * len(values))
        sealed = []
        for start, (plaintext, place) in zip(range(0, len(nonces), NONCE_BYTES), values, strict=True):
            nonce = nonces[start : start + NONCE_BYTES]
            cipher = self._cipher(self.current, place.tenant, place.table, place.row)
            sealed.append(
                header + nonce + cipher.encrypt(nonce, plaintext.encode(), place.associated_data(header))
            )
        return sealed

    def unseal(self, sealed: bytes, place: Place) -> str:
        """Decrypt what `seal` made for the same place. Raises UnreadableError."""
        sealed = bytes(sealed)
        try:
            key_id = key_id_of(sealed)
            end = 2 + len(key_id)
            cipher = self._cipher(key_id, place.tenant, place.table, place.row)
            nonce, body = sealed[end : end + NONCE_BYTES], sealed[end + NONCE_BYTES :]
            return cipher.decrypt(nonce, body, place.associated_data(sealed[:end])).decode()
        except (InvalidTag, KeyError, IndexError, ValueError):
            raise UnreadableError("This value cannot be decrypted.") from None

    def _derive(self, key_id: str, tenant: str, table: str, row: str) -> AESGCM:
        info = json.dumps(["portal", FORMAT, tenant, table, row]).encode()
        return AESGCM(HKDFExpand(SHA256(), KEY_BYTES, info).derive(self._keys[key_id]))


def header_of(key_id: str) -> bytes:
    """Return what every value begins with that was sealed with a master key (C5)."""
    name = key_id.encode("ascii")
    return bytes([FORMAT, len(name)]) + name


def key_id_of(sealed: bytes) -> str:
    """Return the id of the master key that a sealed value was made with. Raises ValueError or IndexError."""
    if sealed[0] != FORMAT:
        raise ValueError("unknown format")
    return sealed[2 : 2 + sealed[1]].decode("ascii")


@functools.cache
def _ring(items: tuple[str, ...]) -> KeyRing:
    return KeyRing.parse(list(items))


def key_ring() -> KeyRing:
    """Return the key ring that the settings describe."""
    return _ring(tuple(settings.ENCRYPTION_KEYS))


class SealedField(models.BinaryField):  # type: ignore[type-arg]
    """A column of sealed text. It is never in a form, and only `seal` and `unseal` look inside.

    The model must have a primary key before sealing (a UUID default does) and a method ``tenant_id()``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("null", True)
        kwargs.setdefault("blank", True)
        kwargs["editable"] = False
        super().__init__(*args, **kwargs)

    def place(self, instance: models.Model) -> Place:
        """Name the place of this column in one row."""
        return Place(
            table=instance._meta.db_table,
            column=self.attname,
            row=str(instance.pk),
            tenant=str(instance.tenant_id()),  # type: ignore[attr-defined]
        )


def seal(instance: models.Model, column: str, plaintext: str | None) -> None:
    """Put text into a sealed column of an instance; saving it is the caller's. None or "" erases."""
    field = _sealed_field(instance, column)
    setattr(instance, column, key_ring().seal(plaintext, field.place(instance)) if plaintext else None)


def unseal(instance: models.Model, column: str) -> str | None:
    """Read a sealed column; None where nothing is stored. Raises UnreadableError."""
    field = _sealed_field(instance, column)
    sealed = getattr(instance, column)
    return None if sealed is None else key_ring().unseal(bytes(sealed), field.place(instance))


def _sealed_field(instance: models.Model, column: str) -> SealedField:
    field = instance._meta.get_field(column)
    if not isinstance(field, SealedField):
        raise TypeError(f"{column} is not a sealed column")
    return field
