"""Statements C1 to C5, C8, C10 and C12: secrets at rest, bound to their place. C6 and C7 have files of their own."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import replace

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.urls import reverse

from portal import encryption, rotate
from portal.encryption import KeyRing, Place, UnreadableError, header_of, key_id_of, key_ring, seal, unseal
from portal.keycheck import check_keys
from tests.factories import CANARY, PASSWORD, GrantFactory, ProviderConfigFactory
from tests.security.sealed import (
    OLD,
    damage,
    dump_database,
    fill_every_sealed_column,
    flipped,
    new_key,
    place_of,
    swap,
)
from tokens.models import GrantTokens

pytestmark = pytest.mark.django_db

HERE = Place(table="t", column="c", row="1", tenant="acme")


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
    apart = {ring.seal("x", HERE)[start : start + 12] for _ in range(50_000)}
    together = {sealed[start : start + 12] for sealed in ring.seal_all([("x", HERE)] * 50_000)}

    assert len(apart | together) == 100_000


def test_values_sealed_together_open_each_in_its_place_c3():
    ring = key_ring()
    places = [HERE, replace(HERE, column="another"), replace(HERE, row="another")]

    sealed = ring.seal_all([(place.row + place.column, place) for place in places])

    for place, value in zip(places, sealed, strict=True):
        assert ring.unseal(value, place) == place.row + place.column
    with pytest.raises(UnreadableError):
        ring.unseal(sealed[0], places[1])


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
    with pytest.raises(ImproperlyConfigured) as refusal:
        KeyRing.parse(items)

    assert said in str(refusal.value)
    assert "AAAA" not in str(refusal.value)


def test_a_key_ring_does_not_show_its_keys():
    ring = KeyRing.parse([f"k1:{base64.b64encode(b'CANARY' + b'0' * 26).decode()}"])

    assert repr(ring) == "KeyRing(['k1'])"


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
