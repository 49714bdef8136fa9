"""How a process starts: it refuses a configuration that can't be right, in sentences that say what to change."""

from __future__ import annotations

import gc

from django.core.checks import run_checks
from django.db import connection

from portal.instance import note_first_start
from portal.keycheck import require_right_keys
from portal.models import Instance


def require_sound_start() -> None:
    """Stop this process if a system check finds an error (a wrong catalog file, say), or the keys do not fit (C7)."""
    errors = [message for message in run_checks() if message.is_serious() and not message.is_silenced()]
    if errors:
        raise SystemExit(
            "Refusing to start.\n" + "\n".join(f"- {error.msg} ({error.id})" for error in errors)
        )
    require_right_keys()
    if Instance._meta.db_table in connection.introspection.table_names():
        note_first_start()
    connection.close()


def keep_what_is_loaded() -> None:
    """Spare the garbage collector what stays as long as the process. Processes that are forked later share it, too.

    It walked through all of that again and again, and stopped every thread for up to 100 ms each time.
    """
    gc.collect()
    gc.freeze()
