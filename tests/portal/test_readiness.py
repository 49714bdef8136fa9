"""What load balancers ask: is the process alive, and can it do its work?"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

import pytest
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from portal.keycheck import check_keys

if TYPE_CHECKING:
    from django.test import Client
    from pytest_django.fixtures import SettingsWrapper


pytestmark = pytest.mark.django_db

WELL = {"database": "ok", "broker": "ok", "keys": "ok", "migrations": "ok"}


def test_alive_needs_nothing_and_asks_nobody(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        response = client.get("/healthz")

    assert response.json() == {"status": "ok"}


def test_ready_means_that_database_broker_keys_and_migrations_are_well(client, django_assert_max_num_queries):
    check_keys()
    client.get("/readyz")

    with django_assert_max_num_queries(3):
        response = client.get("/readyz")

    assert (response.status_code, response.json()) == (200, {"status": "ok", "checks": WELL})


def test_a_broker_that_is_gone_is_named_without_its_address(
    client: Client, settings: SettingsWrapper
) -> None:
    settings.REDIS_URL = "redis://:hunter2@127.0.0.1:1/0"

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json() == {"status": "unavailable", "checks": {**WELL, "broker": "failed"}}


def test_a_migration_that_is_missing_is_found(client: Client) -> None:
    MigrationRecorder.Migration.objects.filter(app="tokens").latest("id").delete()

    response = client.get("/readyz")

    assert response.json()["checks"] == {**WELL, "migrations": "failed"}


def test_c7_a_key_that_is_not_the_right_one_is_found(client: Client, settings: SettingsWrapper) -> None:
    check_keys()
    key_id = settings.ENCRYPTION_KEYS[0].partition(":")[0]
    settings.ENCRYPTION_KEYS = [f"{key_id}:{base64.b64encode(os.urandom(32)).decode()}"]

    response = client.get("/readyz")

    assert response.json()["checks"] == {**WELL, "keys": "failed"}


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_gone_is_said_and_the_process_is_still_alive(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")

    ready, alive = client.get("/readyz"), client.get("/healthz")

    assert ready.status_code == 503
    assert ready.json()["checks"] == {
        "database": "failed",
        "broker": "ok",
        "keys": "failed",
        "migrations": "failed",
    }
    assert alive.status_code == 200
    connection.close()
