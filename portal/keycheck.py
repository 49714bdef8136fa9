"""Refuse to run with the wrong encryption keys (C7).

For each master key in use the database holds one known sealed word. A key that is missing or has changed is found
before anything is read or written with it.
"""

from __future__ import annotations

from django.db import DatabaseError, connection

from portal.encryption import UnreadableError, key_ring, seal, unseal
from portal.models import KeyCheck

WORD = "this key is the right one"


class WrongKeyError(Exception):
    """The key ring lacks, or has changed, a key that data was encrypted with."""


def compare_keys() -> None:
    """Compare the key ring with the database. Raises WrongKeyError, which names the key id and what to do."""
    ring = key_ring()
    for check in KeyCheck.objects.all():
        if check.key_id not in ring:
            raise WrongKeyError(
                f"Data in the database is encrypted with the key '{check.key_id}', which ENCRYPTION_KEYS does not hold. "
                "Add that key again (behind the current one); after `manage.py rotate_keys` it may go."
            )
        try:
            is_right = unseal(check, "word") == WORD
        except UnreadableError:
            is_right = False
        if not is_right:
            raise WrongKeyError(
                f"The key '{check.key_id}' in ENCRYPTION_KEYS is not the one that the data was encrypted with. "
                "Put the earlier value back; give a new key a new id."
            )


def check_keys() -> None:
    """Compare the key ring with the database, and note the current key there if it is new.

    Raises WrongKeyError; changes nothing in that case.
    """
    compare_keys()
    check = KeyCheck(key_id=key_ring().current)
    if not KeyCheck.objects.filter(key_id=check.key_id).exists():
        seal(check, "word", WORD)
        KeyCheck.objects.bulk_create([check], ignore_conflicts=True)


def require_right_keys() -> None:
    """Stop this process with one clear sentence if the keys are wrong; do nothing before the first migration."""
    try:
        if KeyCheck._meta.db_table not in connection.introspection.table_names():
            return
        check_keys()
    except WrongKeyError as error:
        raise SystemExit(f"Refusing to start. {error}") from None
    except DatabaseError as error:
        raise SystemExit(
            f"Refusing to start: the database does not answer ({type(error).__name__})."
        ) from None
    finally:
        connection.close()
