"""Statements C1 to C8, C10 and C12: secrets at rest, the key ring, its rotation and its absence."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import subprocess
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from allauth.mfa.models import Authenticator
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal import encryption, rotate
from portal.encryption import KeyRing, Place, UnreadableError, header_of, key_id_of, key_ring, seal, unseal
from portal.keycheck import check_keys
from portal.models import KeyCheck
from portal.people import MFAAdapter
from tests.factories import CANARY, PASSWORD, GrantFactory, ProviderConfigFactory
from tests.processes import ROOT, test_database_url, wait_until
from tokens.models import AuthorizationRequest, ConnectSession, GrantTokens

if TYPE_CHECKING:
    from django.db import models

pytestmark = pytest.mark.django_db

HERE = Place(table="t", column="c", row="1", tenant="acme")
# The tests' own key id, from tests/servers.py.
OLD = "k20260101"


def new_key(key_id: str) -> str:
    return f"{key_id}:{base64.b64encode(os.urandom(32)).decode()}"


# --- C1: nothing in clear -----------------------------------------------------------------------------------------


def test_no_secret_is_in_clear_anywhere_in_the_database_c1(cast):
    filled = fill_every_sealed_column(cast)
    browser = Client()
    browser.post(reverse("account_login"), {"login": cast.owner.email, "password": PASSWORD})
    browser.get(reverse("member-list", args=[cast.application.slug]))
    browser.post(
        reverse("member-invite", args=[cast.application.slug]), {"email": "jo@example.com", "role": "support"}
    )

    dump = dump_database()

    kinds = {"client_secret", "access_token", "refresh_token", "exchanged", "code_verifier"}
    assert kinds <= {column for _, column in filled}
    assert b"acme-tasks" in dump, "the dump must hold the data at all"
    for marker in (CANARY, f"{CANARY}-encryption-key"):
        assert marker.encode() not in dump
        assert marker.encode().hex().encode() not in dump
        # The three ways that base64 may cut the marker.
        for shift in range(3):
            encoded = base64.b64encode(b" " * shift + marker.encode())[4 if shift else 0 : -4]
            assert encoded not in dump


def test_a_sealed_column_is_in_no_form_c1():
    for model in rotate.sealed_models():
        assert all(not column.editable for column in rotate.sealed_columns(model))


# --- C2: nonces ---------------------------------------------------------------------------------------------------


def test_a_hundred_thousand_seals_repeat_no_nonce_c2():
    """Each row has a key of its own, so a nonce counts only against others of the same row; we ask for more."""
    ring = key_ring()
    start = len(header_of(ring.current))
    nonces = {ring.seal("x", HERE)[start : start + 12] for _ in range(100_000)}

    assert len(nonces) == 100_000


def test_two_rows_have_two_keys_c2(monkeypatch):
    """The limit of 2^32 encryptions a key is one for each row, and no row is sealed so often."""
    used: list[bytes] = []

    class Cipher:
        def __init__(self, key: bytes) -> None:
            used.append(key)

        def encrypt(self, *parts: bytes) -> bytes:
            return b""

    monkeypatch.setattr(encryption, "AESGCM", Cipher)

    for tenant, table, row in [("a", "t", "1"), ("a", "t", "2"), ("b", "t", "1"), ("a", "u", "1")]:
        key_ring().seal("x", Place(table=table, column="c", row=row, tenant=tenant))

    assert len(set(used)) == 4
    assert all(len(key) == 32 for key in used)


# --- C3: bound to their place -------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["table", "column", "row", "tenant"])
def test_a_value_opens_in_no_other_place_c3(part):
    ring = key_ring()
    sealed = ring.seal("secret", HERE)
    elsewhere = Place(**{**vars(HERE), part: "other"})

    with pytest.raises(UnreadableError):
        ring.unseal(sealed, elsewhere)

    assert ring.unseal(sealed, HERE) == "secret"


def test_parts_of_a_place_do_not_run_into_each_other_c3():
    ring = key_ring()
    sealed = ring.seal("secret", Place(table="ab", column="c", row="1", tenant="t"))

    with pytest.raises(UnreadableError):
        ring.unseal(sealed, Place(table="a", column="bc", row="1", tenant="t"))


def test_a_value_opens_with_no_other_key_id_c3(settings):
    """The key id is authenticated too: the same key under another name does not open."""
    key = os.urandom(32)
    sealed = KeyRing({"one": key}).seal("secret", HERE)
    renamed = header_of("two") + sealed[len(header_of("one")) :]

    with pytest.raises(UnreadableError):
        KeyRing({"two": key}).unseal(renamed, HERE)


def test_swapped_rows_do_not_open_c3(cast):
    first, second = (GrantFactory() for _ in range(2))
    swap(first.tokens, second.tokens, "access_token")

    for tokens in GrantTokens.objects.all():
        with pytest.raises(UnreadableError):
            unseal(tokens, "access_token")


def test_swapped_columns_do_not_open_c3(cast):
    tokens = GrantFactory().tokens
    tokens.access_token, tokens.refresh_token = tokens.refresh_token, tokens.access_token
    tokens.save()

    with pytest.raises(UnreadableError):
        unseal(GrantTokens.objects.get(), "access_token")


def test_a_row_moved_to_another_tenant_does_not_open_c3(cast):
    config = ProviderConfigFactory(application=cast.application)
    type(config).objects.filter(pk=config.pk).update(application=cast.strangers_application)
    config.refresh_from_db()

    with pytest.raises(UnreadableError):
        config.credentials()


# --- C4, C5: keys outside the database, their ids inside ----------------------------------------------------------


def test_nothing_in_the_database_or_in_secret_key_opens_a_token_c4(cast, settings):
    check_keys()
    tokens = GrantFactory().tokens
    place = place_of(tokens)
    guesses = [settings.SECRET_KEY.encode(), *dump_database().replace(b"\t", b"\n").split(b"\n")]

    for guess in guesses:
        for key in (
            hashlib.sha256(guess).digest(),
            guess[:32].ljust(32, b"\0"),
            guess[-32:].rjust(32, b"\0"),
        ):
            with pytest.raises(UnreadableError):
                KeyRing({OLD: key}).unseal(tokens.access_token, place)


def test_every_value_carries_format_and_key_id_c5(cast):
    for instance, column in fill_every_sealed_column(cast):
        sealed = bytes(getattr(instance, column))
        assert sealed[0] == encryption.FORMAT
        assert key_id_of(sealed) == OLD


@pytest.mark.parametrize(
    ("items", "said"),
    [
        ([], "ENCRYPTION_KEYS is empty"),
        (["k1"], "key 'k1' must be 32 bytes, it has 0"),
        (["k1:AAAA"], "key 'k1' must be 32 bytes, it has 3"),
        (["k1:not base64!"], "key 'k1' is not valid base64"),
        (["k1:ä"], "key 'k1' is not valid base64"),
        ([":AAAA"], "every key needs an id"),
        (["ä:AAAA"], "every key needs an id"),
        (["k" * 33 + ":AAAA"], "every key needs an id"),
        ([new_key("k1"), new_key("k1")], "'k1' stands there twice"),
    ],
)
def test_a_key_ring_that_can_not_be_read_is_explained_without_the_key(items, said):
    from django.core.exceptions import ImproperlyConfigured

    with pytest.raises(ImproperlyConfigured) as refusal:
        KeyRing.parse(items)

    assert said in str(refusal.value)
    assert "AAAA" not in str(refusal.value)


def test_a_key_ring_does_not_show_its_keys():
    ring = KeyRing.parse([f"k1:{base64.b64encode(b'CANARY' + b'0' * 26).decode()}"])

    assert repr(ring) == "KeyRing(['k1'])"


# --- C6: rotation -------------------------------------------------------------------------------------------------


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


# --- C7: the wrong key --------------------------------------------------------------------------------------------

STARTS = {
    "web": ["-m", "granian", "--interface", "wsgi", "--port", "0", "portal.wsgi:application"],
    "wsgi": ["-c", "import portal.wsgi"],
    "worker": ["-m", "celery", "-A", "portal", "worker", "--concurrency", "1"],
    "beat": ["-m", "celery", "-A", "portal", "beat", "--scheduler", "celery.beat:Scheduler"],
}


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", STARTS)
@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (new_key(OLD), f"The key '{OLD}' in ENCRYPTION_KEYS is not the one"),
        (new_key("other"), f"with the key '{OLD}', which ENCRYPTION_KEYS does not hold"),
    ],
    ids=["changed", "missing"],
)
def test_a_process_with_the_wrong_key_refuses_to_start_and_changes_nothing_c7(cast, what, keys, said):
    GrantFactory()
    check_keys()
    before = hashlib.sha256(dump_database()).hexdigest()

    ended = subprocess.run(
        [sys.executable, *STARTS[what]],
        cwd=ROOT,
        env=environment(keys),
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode != 0
    output = (ended.stdout + ended.stderr).decode()
    assert "Refusing to start. " in output
    assert said in output
    assert keys.partition(":")[2] not in output
    assert hashlib.sha256(dump_database()).hexdigest() == before


def test_the_right_key_is_noted_once_c7(db):
    check_keys()
    check_keys()

    assert list(KeyCheck.objects.values_list("pk", flat=True)) == [OLD]


# --- C8: one unreadable row ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "other key"])
def test_an_unreadable_row_stands_alone_and_can_be_overwritten_c8(cast, how):
    config = ProviderConfigFactory(application=cast.application)
    broken, whole = (GrantFactory(provider_config=config) for _ in range(2))
    damage(broken.tokens, "access_token", how)
    damage(config, "client_secret", how)
    client = cast.client("owner")

    for name, args in [
        ("grant-list", []),
        ("grant-detail", [broken.pk]),
        ("provider-list", []),
        ("application-overview", []),
    ]:
        assert client.get(reverse(name, args=[cast.application.slug, *args])).status_code == 200
    assert unseal(GrantTokens.objects.get(pk=whole.pk), "access_token") == f"{CANARY}-access-token"
    tokens = GrantTokens.objects.get(pk=broken.pk)
    with pytest.raises(UnreadableError):
        unseal(tokens, "access_token")
    seal(tokens, "access_token", "connected again")
    tokens.save()
    assert unseal(GrantTokens.objects.get(pk=broken.pk), "access_token") == "connected again"


# --- C10: SECRET_KEY is another key -------------------------------------------------------------------------------


def test_another_secret_key_loses_no_token_c10(settings):
    tokens = GrantFactory().tokens

    settings.SECRET_KEY = "another-secret-key-that-is-long-enough-for-the-check-0123456789"

    assert unseal(GrantTokens.objects.get(pk=tokens.pk), "access_token") == f"{CANARY}-access-token"


# --- C12: no oracle -----------------------------------------------------------------------------------------------


def test_every_way_to_be_unreadable_looks_the_same_c12():
    ring = key_ring()
    sealed = ring.seal("secret", HERE)
    header = len(header_of(ring.current))
    broken = [
        b"",
        b"\x01",
        b"\x02" + sealed[1:],
        sealed[:header],
        sealed[:-1],
        sealed + b"\0",
        flipped(sealed, 1),
        flipped(sealed, 3),
        flipped(sealed, header),
        flipped(sealed, header + 12),
        flipped(sealed, len(sealed) - 1),
        KeyRing({"unknown": os.urandom(32)}).seal("secret", HERE),
        KeyRing({ring.current: os.urandom(32)}).seal("secret", HERE),
        ring.seal("secret", Place(table="t", column="c", row="2", tenant="acme")),
        os.urandom(200),
    ]

    for value in broken:
        with pytest.raises(UnreadableError) as refusal:
            ring.unseal(value, HERE)
        assert str(refusal.value) == "This value cannot be decrypted."
        assert refusal.value.__suppress_context__


# --- Helpers ------------------------------------------------------------------------------------------------------


def fill_every_sealed_column(cast: Any) -> list[tuple[models.Model, str]]:
    """Put a marked secret into every sealed column of every model; a new model without a row here fails the test."""
    config = ProviderConfigFactory(application=cast.application)
    grant = GrantFactory(provider_config=config)
    session = ConnectSession.objects.create(
        application=cast.application,
        provider_config=config,
        confirmation="member",
        end_user="user-1",
        link_digest="0" * 64,
        expires_at=timezone.now(),
    )
    request = AuthorizationRequest.objects.create(
        id=uuid.uuid4(), session=session, state_digest="0" * 64, browser_digest="", expires_at=timezone.now()
    )
    rows: dict[type[models.Model], models.Model] = {
        type(row): row for row in (config, grant.tokens, session, request)
    }
    filled = []
    for model in rotate.sealed_models():
        assert model in rows, f"{model.__name__} has a sealed column: make one of it here"
        for column in rotate.sealed_columns(model):
            seal(rows[model], column.attname, f"{CANARY}-{model.__name__}-{column.attname}")
            filled.append((rows[model], column.attname))
        rows[model].save()
    return filled


def dump_database() -> bytes:
    """Return every row of every table as COPY writes it: text as it is, bytes in hex."""
    parts = []
    with connection.cursor() as cursor:
        for table in sorted(connection.introspection.table_names()):
            with cursor.copy(f'COPY (SELECT * FROM "{table}" ORDER BY 1) TO STDOUT') as copy:
                parts += [table.encode(), *(bytes(block) for block in copy)]
    return b"\n".join(parts)


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


def environment(keys: str) -> dict[str, str]:
    """Return what a process of ours needs to run on the test's database with these keys."""
    return {
        **os.environ,
        "DATABASE_URL": test_database_url(),
        "ENCRYPTION_KEYS": keys,
        # The tests' own http://testserver would be refused: plain http is for this machine alone.
        "PUBLIC_URL": "http://127.0.0.1:8000",
        "PYTHONUNBUFFERED": "1",
    }


def every_token_opens(grants: list[Any]) -> bool:
    tokens = GrantTokens.objects.select_related("grant").filter(pk__in=[grant.pk for grant in grants])
    opened = [unseal(row, column) for row in tokens for column in ("access_token", "refresh_token")]
    return len(opened) == 2 * len(grants) and all(CANARY in (text or "") for text in opened)


def place_of(tokens: GrantTokens) -> Place:
    field = GrantTokens._meta.get_field("access_token")
    assert isinstance(field, encryption.SealedField)
    return field.place(tokens)


def in_thread(work: Any) -> None:
    try:
        work()
    finally:
        connection.close()


def is_somebody_waiting(cursor: Any) -> bool:
    cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return bool(cursor.fetchone()[0])


def swap(first: models.Model, second: models.Model, column: str) -> None:
    one, other = getattr(first, column), getattr(second, column)
    type(first)._default_manager.filter(pk=first.pk).update(**{column: other})
    type(second)._default_manager.filter(pk=second.pk).update(**{column: one})


def damage(instance: models.Model, column: str, how: str = "flipped") -> None:
    sealed = bytes(getattr(instance, column))
    ways = {
        "flipped": flipped(sealed, len(sealed) - 1),
        "cut": sealed[:20],
        "empty": b"",
        "other key": header_of("gone") + sealed[len(header_of(OLD)) :],
    }
    type(instance)._default_manager.filter(pk=instance.pk).update(**{column: ways[how]})


def flipped(sealed: bytes, place: int) -> bytes:
    return sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
