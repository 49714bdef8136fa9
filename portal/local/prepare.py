"""Bring the database, the static files and the demo up to date; `make run` does this before it starts anything."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command

from portal.local.progress import step


def main() -> None:
    log = Path(sys.argv[1])
    with log.open("a", buffering=1) as file:
        django.setup()
        with step("Migrating the database"):
            call_command("migrate", interactive=False, verbosity=1, stdout=file, no_color=True)
        stamp = settings.STATIC_ROOT / ".made-from"
        wanted = static_fingerprint()
        if not stamp.exists() or stamp.read_text() != wanted:
            with step("Collecting static files"):
                call_command(
                    "collectstatic", interactive=False, clear=True, verbosity=1, stdout=file, no_color=True
                )
            stamp.write_text(wanted)
        if settings.DEMO:
            with step("Seeding the demo"):
                call_command("seed_demo", stdout=file, no_color=True)


def static_fingerprint() -> str:
    """Return what changes when a static file of ours or of a package does."""
    digest = hashlib.sha256((settings.BASE_DIR / "requirements.txt").read_bytes())
    for path in sorted((settings.BASE_DIR / "static").rglob("*")):
        if path.is_file():
            status = path.stat()
            digest.update(f"{path}:{status.st_mtime_ns}:{status.st_size}\n".encode())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
