"""Sealed columns, filled, damaged and dumped, for the tests of keys and encryption."""

from __future__ import annotations

import base64
import os
import uuid
from typing import TYPE_CHECKING, Any

from django.db import connection
from django.utils import timezone

from portal import api_keys, encryption, rotate
from portal.audit import SYSTEM
from portal.encryption import Place, header_of, seal
from portal.models import AuditKey, WebhookEndpoint
from tests.factories import CANARY, GrantFactory, ProviderConfigFactory
from tests.processes import test_database_url
from tokens.models import AuthorizationRequest, ConnectSession, GrantTokens, KeptAnswer, UpstreamRevocation

if TYPE_CHECKING:
    from django.db import models

# The tests' own key id, from tests/servers.py.
OLD = "k20260101"


def new_key(key_id: str) -> str:
    """Return an item of ENCRYPTION_KEYS."""
    return f"{key_id}:{base64.b64encode(os.urandom(32)).decode()}"


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
    endpoint = WebhookEndpoint(
        application=cast.application, name="x", url="https://app.example/", types=["grant.revoked"]
    )
    endpoint.save(force_insert=True)
    key, _ = api_keys.create(cast.application, name="x", permissions=["connect"], actor=SYSTEM)
    answer = KeptAnswer.objects.create(api_key=key, name="x", held_until=timezone.now())
    again = UpstreamRevocation.objects.create(
        application=cast.application, provider_config=config, grant=grant
    )
    audit_key = AuditKey.objects.create()
    rows: dict[type[models.Model], models.Model] = {
        type(row): row for row in (config, grant.tokens, session, request, endpoint, answer, again, audit_key)
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


def place_of(tokens: GrantTokens) -> Place:
    field = GrantTokens._meta.get_field("access_token")
    assert isinstance(field, encryption.SealedField)
    return field.place(tokens)


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
