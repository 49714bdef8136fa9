"""Pytest plugin: PostgreSQL and Valkey for the tests, and an environment to read settings from.

Loaded by `-p tests.servers` (see pyproject.toml), so that it runs before pytest-django reads the settings. What is set
already (DATABASE_URL, REDIS_URL, …) is left alone. Under pytest-xdist only the controller comes here first; workers
inherit its environment. The servers end with the session, and the watchdog ends them if the session is killed.
"""

from __future__ import annotations

import atexit
import base64
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from portal.embedded import EmbeddedServers
from portal.local.errors import InUseError, LocalError

if TYPE_CHECKING:
    from collections.abc import Generator

# Every made-up secret carries this word; a test looks for it where no secret may be.
CANARY = "CANARY-7f3a"

# 32 bytes each, with the word in clear inside: a key that leaks as bytes is found as well.
ENCRYPTION_KEY = f"{CANARY}-encryption-key-".ljust(32, "0").encode()

ENVIRONMENT = {
    "SECRET_KEY": f"{CANARY}-secret-key-of-the-tests-long-enough-for-the-deploy-check-0123456789",
    "ENCRYPTION_KEYS": f"k20260101:{base64.b64encode(ENCRYPTION_KEY).decode()}",
    "PUBLIC_URL": "http://testserver",
    # localhost: Django's live server, for tests that need real HTTP.
    "ALLOWED_HOSTS": "testserver,localhost,127.0.0.1",
    "INSECURE_HTTP": "true",
    # As in production: what a test reaches on this machine, it says.
    "EGRESS_PRIVATE_HOSTS": "",
    "DEBUG": "false",
    "DEMO": "false",
    "EMAIL_URL": "memorymail://",
}
# These change what is tested, so a developer's own values must not reach the tests.
UNWANTED = [
    "SANDBOX_URL",
    "INSTANCE_ID",
    "PROVIDER_CATALOG_DIRS",
    "EGRESS_PLAIN_HTTP",
    "SIGN_IN_ATLASSIAN_CLIENT_ID",
    "SIGN_IN_ATLASSIAN_CLIENT_SECRET",
    "SECRET_KEY_FALLBACKS",
    "CSRF_TRUSTED_ORIGINS",
    "TRUSTED_PROXIES",
    "REFRESH_INTERVAL_S",
    "DEFAULT_FROM_EMAIL",
    "LOG_LEVEL",
    "LOG_FORMAT",
    "METRICS_TOKEN",
    "FAULT_MOMENTS_DIR",
]
# As many test sessions may run side by side in one work tree.
FOLDERS = 8


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is not None:
        os.environ["REDIS_URL"] = _own_redis(os.environ["REDIS_URL"], int(worker.removeprefix("gw")) + 1)
    else:
        _set_environment()
        if not {"DATABASE_URL", "REDIS_URL"} <= os.environ.keys():
            _start_servers()
    return (yield)


def _own_redis(url: str, number: int) -> str:
    """Return the URL of a database of its own for a worker of pytest-xdist, so that none clears another's cache."""
    if url.startswith("unix://"):
        return f"{url.partition('?')[0]}?db={number}"
    return urlsplit(url)._replace(path=f"/{number}").geturl()


def _set_environment() -> None:
    for name in UNWANTED:
        os.environ.pop(name, None)
    os.environ.update(ENVIRONMENT)
    # As in the Makefile: the processes that tests start are many, and compiling everything is most of their start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def _start_servers() -> None:
    data = Path(os.environ.get("DATA_DIR") or Path(__file__).parent.parent / ".data").resolve()
    for number in range(1, FOLDERS + 1):
        folder = data / ("test" if number == 1 else f"test-{number}")
        servers = EmbeddedServers(
            folder,
            has_postgres="DATABASE_URL" not in os.environ,
            has_valkey="REDIS_URL" not in os.environ,
            is_durable=False,
        )
        try:
            servers.start()
        except InUseError:
            continue
        except LocalError as error:
            raise pytest.UsageError(str(error)) from None
        break
    else:
        raise pytest.UsageError(
            f"{FOLDERS} test sessions run in {data} already. Wait for one, or set another DATA_DIR."
        )
    atexit.register(servers.stop)
    # Files that settings put below DATA_DIR belong to this session too.
    os.environ["DATA_DIR"] = str(folder)
    os.environ.setdefault("DATABASE_URL", servers.database_url)
    os.environ.setdefault("REDIS_URL", servers.redis_url)
