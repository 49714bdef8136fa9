"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings as django_settings
from django.core.cache import cache
from django.core.management import call_command
from django.db import connection
from django.test import Client, TransactionTestCase, override_settings

from portal.models import Application, Membership, Role, User
from portal.rate_limits import RATE_LIMITS
from tests import database
from tests.factories import ApplicationFactory, UserFactory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from providers.sandbox.thread import SandboxThread
    from tests.processes import Processes


# Tests that wait for real processes and browsers. They begin first, in this order, and then the longest modules: at
# the end no core is to wait for the other.
LONG_WAITS = (
    "faults/",
    "browser/",
    "journeys/",
    "portal/test_up",
    "portal/test_embedded",
    "docs/",
    "security/test_key",
    "security/test_wrong",
    "tokens/test_gate",
)
# Tests in a module.
LONG_MODULE = 50


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest in front, after the order was shuffled."""
    sizes = Counter(item.path for item in items)
    waits = {
        path: next(
            (place for place, part in enumerate(LONG_WAITS) if part in path.as_posix()), len(LONG_WAITS)
        )
        for path in sizes
    }
    items.sort(key=lambda item: (waits[item.path], sizes[item.path] < LONG_MODULE))
    for item in items:
        # What the invariants' machine draws waits for nobody: where it breaks one, it is broken.
        if waits[item.path] < len(LONG_WAITS) and item.path.name != "test_invariants.py":
            # Once more, and said in the summary: a loaded machine can be too slow for a browser's or a process's turn.
            item.add_marker(pytest.mark.flaky(reruns=1))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives as long as the session: it walked through all modules again and again."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Cast:
    """The fixed cast: an application, a member of each role, and a stranger who owns another application."""

    application: Application
    owner: User
    admin: User
    support: User
    auditor: User
    stranger: User
    strangers_application: Application

    def client(self, who: str) -> Client:
        """Return a browser with that person signed in; "anonymous" has nobody."""
        client = Client()
        if who != "anonymous":
            client.force_login(getattr(self, who), backend="django.contrib.auth.backends.ModelBackend")
        return client


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_modify_db_settings: None, django_db_blocker: Any
) -> Iterator[None]:
    """Give this worker a database of its own, in the place of pytest-django's."""
    usual = connection.settings_dict["NAME"]
    name = connection.settings_dict["TEST"]["NAME"] or f"test_{usual}"
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        database.make(name)
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda self: database.empty())
        yield
        database.drop(name, instead=usual)


@pytest.fixture
def cast(db: None) -> Cast:
    """Make the cast."""
    # In bulk: a third of all tests have them.
    application, theirs = Application.objects.bulk_create(
        [
            ApplicationFactory.build(name="Acme Tasks", slug="acme-tasks"),
            ApplicationFactory.build(name="Other Product", slug="other-product"),
        ]
    )
    *ours, stranger = User.objects.bulk_create(
        [
            *(UserFactory.build(email=f"{role.value}@acme.example", name=role.label) for role in Role),
            UserFactory.build(email="stranger@other.example", name="Stranger"),
        ]
    )
    people: dict[str, Any] = {role.value: person for role, person in zip(Role, ours, strict=True)}
    Membership.objects.bulk_create(
        [
            *(Membership(application=application, user=people[role.value], role=role) for role in Role),
            Membership(application=theirs, user=stranger, role=Role.OWNER),
        ]
    )
    return Cast(application=application, stranger=stranger, strangers_application=theirs, **people)


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[SandboxThread]:
    from providers.sandbox.thread import SandboxThread

    with SandboxThread() as running:
        yield running


@pytest.fixture
def sandbox(_sandbox: SandboxThread, settings: Any) -> SandboxThread:
    """Play Atlassian on a free port of this machine; every test starts with an empty one."""
    _sandbox.reset()
    settings.SANDBOX_URL = _sandbox.url
    settings.EGRESS_PLAIN_HTTP = True
    return _sandbox


@pytest.fixture(scope="session", autouse=True)
def _static_files() -> Iterator[None]:
    """Collect the static files, hashed as in production; each worker of pytest-xdist has a folder of its own."""
    folder = django_settings.DATA_DIR / f"static-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
    # Autorefresh looks a file up when it is asked for, instead of scanning the folder for every client of every test.
    # Passwords are hashed slowly on purpose; that the slow way is set is not what most tests are about.
    quick = ["django.contrib.auth.hashers.MD5PasswordHasher", *django_settings.PASSWORD_HASHERS]
    with override_settings(STATIC_ROOT=folder, WHITENOISE_AUTOREFRESH=True, PASSWORD_HASHERS=quick):
        call_command("collectstatic", interactive=False, verbosity=0)
        yield


@pytest.fixture(autouse=True)
def _no_cache_between_tests() -> Iterator[None]:
    """Rate limits live in the cache, and one test's must not stop the next."""
    yield
    cache.clear()
    RATE_LIMITS.forget()


@pytest.fixture
def processes(tmp_path: Path, transactional_db: None, sandbox: SandboxThread) -> Iterator[Processes]:
    """Start real workers and beats against this test's database; the sandbox is their provider."""
    from tests.processes import Processes

    started = Processes(tmp_path)
    yield started
    started.stop()
