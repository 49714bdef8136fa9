"""Seal everything anew with the current master key, while the portal works.

How it stays online and can be killed at any moment:

- A batch is read, opened and sealed anew, and written with one statement that changes a value only if it is still the
  one that was read: whatever a refresh wrote meanwhile wins.
- Nothing is remembered between runs. What is left to do is what does not begin with the current key's id, so a second
  run goes on where the first was killed.
- A pass that leaves rows of an earlier key behind is repeated, because a process with the earlier settings may have
  written them.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from django.apps import apps
from django.db import connection, transaction
from django.db.models import Q

from portal.encryption import SealedField, UnreadableError, header_of, key_id_of, key_ring
from portal.models import KeyCheck
from portal.people import MFA_PLACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allauth.mfa.models import Authenticator
    from django.db import models

BATCH_ROWS = 500
PASSES = 3
# Where allauth keeps what MFAAdapter.encrypt sealed: texts, or a list of them.
MFA_NAMES = ("secret", "seed", "migrated_codes")


class Unreadable(NamedTuple):
    """A value that no key opens."""

    table: str
    row: str
    column: str


@dataclass
class Rotation:
    """What a rotation has done so far, counted in rows."""

    done: int = 0
    left: int = 0
    unreadable: set[Unreadable] = field(default_factory=set)
    # How many values are sealed with which key after the rotation; "?" stands for what names none.
    in_use: dict[str, int] = field(default_factory=dict)
    # Keys that nothing is sealed with any more: they may leave ENCRYPTION_KEYS.
    removable: list[str] = field(default_factory=list)


def rotate(
    *, batch_rows: int = BATCH_ROWS, tell: Callable[[Rotation, str], None] = lambda *_: None
) -> Rotation:
    """Seal everything anew with the current key; `tell` is called after each batch with the table's name."""
    rotation = Rotation()
    for _ in range(PASSES):
        rotation.left = _count_stale()
        if rotation.left == len({value[:2] for value in rotation.unreadable}):
            break
        for model in sealed_models():
            _rotate_model(model, rotation, batch_rows, tell)
        _rotate_second_factors(rotation, tell)
    rotation.in_use = keys_in_use()
    _drop_unused_checks(rotation)
    return rotation


def sealed_models() -> list[type[models.Model]]:
    """Return every model with a sealed column, except the key checks: each of those belongs to its own key."""
    return [model for model in apps.get_models() if model is not KeyCheck and sealed_columns(model)]


def sealed_columns(model: type[models.Model]) -> list[SealedField]:
    """Return a model's sealed columns."""
    return [column for column in model._meta.concrete_fields if isinstance(column, SealedField)]


def keys_in_use() -> dict[str, int]:
    """Count the values sealed with each key id; "?" stands for what carries none."""
    counts: dict[str, int] = {}
    for model in sealed_models():
        for column in sealed_columns(model):
            for prefix, rows in _prefixes(model, column):
                key_id = _key_id(bytes(prefix))
                counts[key_id] = counts.get(key_id, 0) + rows
    for authenticator in _authenticators():
        for text in _sealed_texts(authenticator.data):
            key_id = _key_id(_decoded(text))
            counts[key_id] = counts.get(key_id, 0) + 1
    return counts


def _rotate_model(
    model: type[models.Model], rotation: Rotation, batch_rows: int, tell: Callable[[Rotation, str], None]
) -> None:
    columns = sealed_columns(model)
    # tenant_id() may look at a row's owner; one level of required foreign keys spares a query a row.
    owners = [field.name for field in model._meta.concrete_fields if field.is_relation and not field.null]
    rows = model._default_manager.order_by("pk")
    if owners:
        rows = rows.select_related(*owners)
    last: Any = None
    while True:
        stale = (
            rows.filter(_is_stale(columns)) if last is None else rows.filter(_is_stale(columns), pk__gt=last)
        )
        batch = list(stale[:batch_rows])
        if not batch:
            return
        last = batch[-1].pk
        with transaction.atomic():
            changed = [_rotate_column(model, column, batch, rotation) for column in columns]
        rotation.done += max(changed)
        rotation.left = max(0, rotation.left - len(batch))
        tell(rotation, model._meta.db_table)


def _rotate_column(
    model: type[models.Model], column: SealedField, batch: list[models.Model], rotation: Rotation
) -> int:
    """Seal one column of a batch anew, and return how many rows it was written in."""
    ring = key_ring()
    keys: list[Any] = []
    before: list[bytes] = []
    after: list[bytes] = []
    for instance in batch:
        sealed = getattr(instance, column.attname)
        if sealed is None or bytes(sealed).startswith(header_of(ring.current)):
            continue
        place = column.place(instance)
        try:
            anew = ring.seal(ring.unseal(bytes(sealed), place), place)
        except UnreadableError:
            rotation.unreadable.add(Unreadable(model._meta.db_table, str(instance.pk), column.attname))
            continue
        keys.append(instance.pk)
        before.append(bytes(sealed))
        after.append(anew)
    if not keys:
        return 0
    primary = model._meta.pk
    table, key, name = (_quoted(part) for part in (model._meta.db_table, primary.column, column.column))
    with connection.cursor() as cursor:
        # The last condition lets whoever wrote in between win.
        cursor.execute(
            f"UPDATE {table} SET {name} = anew.after "  # noqa: S608 - names come from the models, quoted
            f"FROM unnest(%s::{primary.db_type(connection)}[], %s::bytea[], %s::bytea[]) AS anew(key, before, after) "
            f"WHERE {table}.{key} = anew.key AND {table}.{name} = anew.before",
            [keys, before, after],
        )
        return int(cursor.rowcount)


def _rotate_second_factors(rotation: Rotation, tell: Callable[[Rotation, str], None]) -> None:
    for authenticator in _authenticators():
        if not _is_stale_data(authenticator.data):
            continue
        try:
            anew = {
                name: _resealed(value) if name in MFA_NAMES else value
                for name, value in authenticator.data.items()
            }
        except UnreadableError:
            rotation.unreadable.add(Unreadable("mfa_authenticator", str(authenticator.pk), "data"))
        else:
            # The condition lets a code that is used in between win.
            unchanged = type(authenticator)._default_manager.filter(
                pk=authenticator.pk, data=authenticator.data
            )
            rotation.done += unchanged.update(data=anew)
        rotation.left = max(0, rotation.left - 1)
        tell(rotation, "mfa_authenticator")


def _resealed(value: Any) -> Any:
    ring = key_ring()
    if isinstance(value, list):
        return [_resealed(text) for text in value]
    return base64.b64encode(ring.seal(ring.unseal(_decoded(value), MFA_PLACE), MFA_PLACE)).decode()


def _drop_unused_checks(rotation: Rotation) -> None:
    """Remove the key checks of keys that nothing is sealed with, unless something could not be read."""
    if rotation.unreadable or "?" in rotation.in_use:
        return
    unused = KeyCheck.objects.exclude(pk__in=[*rotation.in_use, key_ring().current])
    rotation.removable = sorted(unused.values_list("pk", flat=True))
    unused.delete()


def _count_stale() -> int:
    """Count the rows that hold something sealed with an earlier key."""
    rows = sum(
        model._default_manager.filter(_is_stale(sealed_columns(model))).count() for model in sealed_models()
    )
    return rows + sum(_is_stale_data(authenticator.data) for authenticator in _authenticators())


def _is_stale(columns: list[SealedField]) -> Q:
    """Select rows in which some column is sealed with another key than the current one."""
    header = header_of(key_ring().current)
    stale = Q()
    for column in columns:
        # From the header to the header with its last byte raised lie exactly the values that begin with it.
        after = header[:-1] + bytes([header[-1] + 1])
        stale |= Q(**{f"{column.attname}__lt": header}) | Q(**{f"{column.attname}__gte": after})
    return stale


def _prefixes(model: type[models.Model], column: SealedField) -> Iterator[tuple[bytes, int]]:
    """Yield each distinct beginning (long enough for any key id) with its number of rows."""
    table, name = _quoted(model._meta.db_table), _quoted(column.column)
    with connection.cursor() as cursor:
        # length byte + 2 = the header: format, length, key id.
        cursor.execute(
            f"SELECT substring({name} FROM 1 FOR CASE WHEN length({name}) > 2 THEN get_byte({name}, 1) + 2 ELSE 2 END), "  # noqa: S608
            f"count(*) FROM {table} WHERE {name} IS NOT NULL GROUP BY 1"
        )
        yield from cursor.fetchall()


def _quoted(name: str | None) -> str:
    assert name is not None  # Every concrete column has a name.
    return connection.ops.quote_name(name)


def _authenticators() -> Iterator[Authenticator]:
    from allauth.mfa.models import Authenticator

    yield from Authenticator.objects.exclude(type=Authenticator.Type.WEBAUTHN).order_by("pk").iterator()


def _sealed_texts(data: dict[str, Any]) -> Iterator[str]:
    for name in MFA_NAMES:
        value = data.get(name)
        yield from value if isinstance(value, list) else [value] if isinstance(value, str) else []


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except (binascii.Error, ValueError):
        return b""


def _is_stale_data(data: dict[str, Any]) -> bool:
    return any(_key_id(_decoded(text)) != key_ring().current for text in _sealed_texts(data))


def _key_id(sealed: bytes) -> str:
    try:
        return key_id_of(sealed)
    except (ValueError, IndexError):
        return "?"
