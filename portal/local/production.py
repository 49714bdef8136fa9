"""Run a command under production settings with made-up values, for checks that need settings but no servers.

python -m portal.local.production manage.py check --deploy
"""

from __future__ import annotations

import os
import secrets
import sys

from portal.local.environment import ROOT, new_encryption_key

KEPT = (
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "TERM",
    "COLUMNS",
    "NO_COLOR",
    "FORCE_COLOR",
    "CI",
    "VIRTUAL_ENV",
)


def production_environment() -> dict[str, str]:
    """Return what a production machine would set, and nothing of a developer's own."""
    return {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "PUBLIC_URL": "https://portal.example.com",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "ENCRYPTION_KEYS": new_encryption_key(),
        # Nothing listens there: these checks must not need a server.
        "DATABASE_URL": "postgres://portal:unused@127.0.0.1:1/portal",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "EMAIL_URL": "smtp+tls://portal:unused@mail.example.com:587",
        "TRUSTED_PROXIES": "1",
    }


def main() -> None:
    os.chdir(ROOT)
    os.execve(sys.executable, [sys.executable, *sys.argv[1:]], production_environment())


if __name__ == "__main__":
    main()
