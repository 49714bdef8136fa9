"""Refuse to serve with a configuration that can't be right, in sentences that say what to change."""

from __future__ import annotations

from django.core.checks import run_checks

from portal.keycheck import require_right_keys


def require_sound_start() -> None:
    """Stop this process if a system check finds an error (a wrong catalog file, say), or the keys do not fit (C7)."""
    errors = [message for message in run_checks() if message.is_serious() and not message.is_silenced()]
    if errors:
        raise SystemExit(
            "Refusing to start.\n" + "\n".join(f"- {error.msg} ({error.id})" for error in errors)
        )
    require_right_keys()
