"""Statement C6: keys are rotated online, through kill -9, and the old one can go at the end."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.core.management import call_command
from django.db import connection

from portal import rotate
from portal.encryption import KeyRing, key_id_of, unseal
from portal.keycheck import check_keys
from portal.models import KeyCheck
from portal.people import MFAAdapter
from tests.factories import CANARY, GrantFactory, ProviderConfigFactory
from tests.processes import ROOT, wait_until
from tests.security.sealed import (
    OLD,
    damage,
    environment,
    fill_every_sealed_column,
    new_key,
    place_of,
)
from tokens.models import GrantTokens

pytestmark = pytest.mark.django_db


def test_a_rotation_seals_everything_anew_c6(cast, settings):
    filled = fill_every_sealed_column(cast)
    totp = Authenticator.objects.create(
        user=cast.owner, type=Authenticator.Type.TOTP, data={"secret": MFAAdapter().encrypt("totp secret")}
    )
    codes = Authenticator.objects.create(
        user=cast.owner,
        type=Authenticator.Type.RECOVERY_CODES,
        data={"seed": MFAAdapter().encrypt("seed"), "used_mask": 5},
    )
    check_keys()
    settings.ENCRYPTION_KEYS = [new_key("new"), *settings.ENCRYPTION_KEYS]

    output = run_rotation()

    assert f"These keys may be removed from ENCRYPTION_KEYS: {OLD}" in output
    assert set(rotate.keys_in_use()) == {"new"}
    assert list(KeyCheck.objects.values_list("pk", flat=True)) == ["new"]
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]
    check_keys()
    for instance, column in filled:
        again = type(instance)._default_manager.get(pk=instance.pk)
        assert CANARY in (unseal(again, column) or "")
    for authenticator, name, text in [(totp, "secret", "totp secret"), (codes, "seed", "seed")]:
        authenticator.refresh_from_db()
        assert MFAAdapter().decrypt(authenticator.data[name]) == text
    assert codes.data["used_mask"] == 5


def test_a_rotation_with_nothing_to_do_says_so_c6(cast):
    check_keys()

    assert f"Everything is sealed with the key '{OLD}' already." in run_rotation()
    assert KeyCheck.objects.exists()


def test_a_rotation_tells_how_far_it_is_c6(cast, settings):
    config = ProviderConfigFactory()
    GrantFactory.create_batch(5, provider_config=config)
    settings.ENCRYPTION_KEYS = [new_key("new"), *settings.ENCRYPTION_KEYS]

    lines = run_rotation("--batch", "2").splitlines()

    assert lines[:4] == [
        "1 rows done, 5 left (providers_providerconfig)",
        "3 rows done, 3 left (tokens_granttokens)",
        "5 rows done, 1 left (tokens_granttokens)",
        "6 rows done, 0 left (tokens_granttokens)",
    ]


@pytest.mark.django_db(transaction=True)
def test_a_rotation_survives_kill_9_and_reads_succeed_throughout_c6(settings):
    config = ProviderConfigFactory()
    grants = GrantFactory.create_batch(60, provider_config=config)
    check_keys()
    settings.ENCRYPTION_KEYS = [new_key("new"), *settings.ENCRYPTION_KEYS]
    for kill_after in (3, 17):
        process = start_rotation(settings)
        for _ in range(kill_after):
            assert process.stdout is not None
            assert b"rows done" in process.stdout.readline()
        process.kill()
        process.communicate()
        assert every_token_opens(grants)
        assert set(rotate.keys_in_use()) == {"new", OLD}, "the kill must have come in the middle"

    last = start_rotation(settings)
    output, _ = last.communicate(timeout=60)

    assert last.returncode == 0
    assert f"may be removed from ENCRYPTION_KEYS: {OLD}".encode() in output
    assert set(rotate.keys_in_use()) == {"new"}
    settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS[:1]
    check_keys()
    assert every_token_opens(grants)


@pytest.mark.django_db(transaction=True)
def test_a_refresh_during_a_rotation_wins_c6(settings):
    tokens = GrantFactory().tokens
    settings.ENCRYPTION_KEYS = [new_key("new"), *settings.ENCRYPTION_KEYS]
    # What a process that still has the earlier settings is about to commit.
    written = KeyRing.parse(settings.ENCRYPTION_KEYS[1:]).seal("just refreshed", place_of(tokens))
    rotation = threading.Thread(target=in_thread, args=[rotate.rotate])
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("UPDATE tokens_granttokens SET access_token = %s", [written])

        rotation.start()
        wait_until(lambda: is_somebody_waiting(cursor), what="the rotation to meet the refresh's lock")
        cursor.execute("COMMIT")
    rotation.join(timeout=30)

    tokens.refresh_from_db()
    assert unseal(tokens, "access_token") == "just refreshed"
    assert key_id_of(bytes(tokens.access_token)) == "new", "the next pass has sealed it anew"


def test_what_no_key_opens_is_told_and_left_and_no_key_is_given_up_c6_c8(cast, settings):
    config = ProviderConfigFactory()
    broken, whole = (GrantFactory(provider_config=config) for _ in range(2))
    check_keys()
    damage(broken.tokens, "access_token")
    before = bytes(GrantTokens.objects.get(pk=broken.pk).access_token)
    settings.ENCRYPTION_KEYS = [new_key("new"), *settings.ENCRYPTION_KEYS]
    errors = io.StringIO()

    with pytest.raises(SystemExit) as end:
        call_command("rotate_keys", stdout=io.StringIO(), stderr=errors)

    assert end.value.code == 1
    assert f"No key opens access_token of tokens_granttokens {broken.pk}" in errors.getvalue()
    assert bytes(GrantTokens.objects.get(pk=broken.pk).access_token) == before
    assert key_id_of(bytes(GrantTokens.objects.get(pk=whole.pk).access_token)) == "new"
    assert key_id_of(bytes(GrantTokens.objects.get(pk=broken.pk).refresh_token)) == "new"
    assert KeyCheck.objects.filter(pk=OLD).exists()


def run_rotation(*arguments: str) -> str:
    out = io.StringIO()
    call_command("rotate_keys", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def start_rotation(settings: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "rotate_keys", "--batch", "1"],
        cwd=ROOT,
        env=environment(",".join(settings.ENCRYPTION_KEYS)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def every_token_opens(grants: list[Any]) -> bool:
    tokens = GrantTokens.objects.select_related("grant").filter(pk__in=[grant.pk for grant in grants])
    opened = [unseal(row, column) for row in tokens for column in ("access_token", "refresh_token")]
    return len(opened) == 2 * len(grants) and all(CANARY in (text or "") for text in opened)


def in_thread(work: Any) -> None:
    try:
        work()
    finally:
        connection.close()


def is_somebody_waiting(cursor: Any) -> bool:
    cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return bool(cursor.fetchone()[0])
