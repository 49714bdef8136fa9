"""The environment of a portal on this machine: where its data lives, its ports, its own secrets."""

from __future__ import annotations

import base64
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from portal.local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = "127.0.0.1"
DEMO_EMAIL = "admin@acme.example"


@dataclass(frozen=True)
class Place:
    """Where a local portal lives and listens."""

    data: Path
    port: int
    sandbox_port: int
    has_sandbox: bool

    @property
    def portal_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def sandbox_url(self) -> str:
        return f"http://{HOST}:{self.sandbox_port}" if self.has_sandbox else ""


def read_place(environ: Mapping[str, str]) -> Place:
    """Read DATA_DIR, PORT, SANDBOX_PORT and SANDBOX; raises LocalError for a value that cannot be meant."""
    place = Place(
        data=(ROOT / Path(environ.get("DATA_DIR") or ".data").expanduser()).resolve(),
        port=_port(environ, "PORT", 8000),
        sandbox_port=_port(environ, "SANDBOX_PORT", 8001),
        has_sandbox=environ.get("SANDBOX", "on").lower() not in {"off", "no", "false", "0"},
    )
    if place.has_sandbox and place.port == place.sandbox_port:
        raise LocalError(f"PORT and SANDBOX_PORT are both {place.port}. Choose two different ports.")
    return place


def _port(environ: Mapping[str, str], name: str, usual: int) -> int:
    value = environ.get(name) or str(usual)
    if not value.isdecimal() or not 1 <= int(value) <= 65535:
        raise LocalError(
            f"{name}={value} is not a port. Give a number from 1 to 65535, such as {name}={usual}."
        )
    return int(value)


def own_secrets(data: Path) -> dict[str, str]:
    """Return this data folder's secrets, made at the first call and kept in a file that only its owner can read."""
    path = data / "secrets.env"
    if not path.exists():
        made = {
            "SECRET_KEY": secrets.token_urlsafe(50),
            "ENCRYPTION_KEYS": new_encryption_key(),
            "DEMO_PASSWORD": secrets.token_urlsafe(12),
            "INSTANCE_ID": secrets.token_hex(16),
        }
        lines = ["# Made by `make run` for this folder alone. Without it the data beside it cannot be read."]
        write_private(path, "\n".join(lines + [f"{name}={value}" for name, value in made.items()]) + "\n")
    pairs = (
        line.partition("=") for line in path.read_text().splitlines() if line and not line.startswith("#")
    )
    return {name: value for name, _, value in pairs}


def new_encryption_key() -> str:
    """Return "id:key" with 32 random bytes and today's date as the id."""
    return f"k{datetime.now(UTC):%Y%m%d}:{base64.b64encode(secrets.token_bytes(32)).decode()}"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def environment(
    place: Place, environ: Mapping[str, str], *, database_url: str, redis_url: str
) -> dict[str, str]:
    """Return the environment for the portal's processes; what the caller's own environment says wins."""
    public_host = urlsplit(environ.get("PUBLIC_URL", "")).hostname
    chosen = {
        **own_secrets(place.data),
        "DEMO": "true",
        "DEMO_EMAIL": DEMO_EMAIL,
        "INSECURE_HTTP": "true",
        "PUBLIC_URL": place.portal_url,
        "ALLOWED_HOSTS": ",".join({HOST, "localhost", public_host or HOST}),
        # Four slashes: the first is cut off on the way, and the path is absolute.
        "EMAIL_URL": f"filemail:///{quote(str(place.data / 'mail'))}",
        "PYTHONUNBUFFERED": "1",
    }
    fixed = {
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "DATA_DIR": str(place.data),
        "PORT": str(place.port),
        "SANDBOX_PORT": str(place.sandbox_port),
        "SANDBOX_URL": place.sandbox_url,
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
    }
    return {**chosen, **environ, **fixed}
