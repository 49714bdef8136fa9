"""Factories with traits: a fixed cast and everything it needs."""

from __future__ import annotations

import datetime as dt
import functools
from typing import Any

import factory
from django.contrib.auth.hashers import make_password
from django.db import connection
from django.utils import timezone
from factory.django import DjangoModelFactory

from portal.encryption import seal
from portal.models import Application, Membership, Role, User
from providers.models import ProviderConfig
from tokens.models import Grant, GrantStatus, GrantTokens, Site

# Every secret that a test makes holds this, so that one search finds a leak.
CANARY = "CANARY-7f3a"
PASSWORD = f"correct horse {CANARY}"
CLIENT_SECRET = f"ATOA{CANARY}client-secret"


def database_now() -> dt.datetime:
    """Return the database's clock, the only one that decides."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        (now,) = cursor.fetchone()
    return now


@functools.cache
def _hashed(password: str) -> str:
    """Hash a password once: it takes long on purpose, and nearly everybody in the tests has the same."""
    return make_password(password)


def _with_hash(values: dict[str, Any]) -> dict[str, Any]:
    return {**values, "password": _hashed(values.get("password", PASSWORD))}


class UserFactory(DjangoModelFactory[User]):
    """A person with a password."""

    class Meta:
        model = User
        skip_postgeneration_save = True

    email = factory.Sequence(lambda n: f"person{n}@acme.example")
    name = factory.Sequence(lambda n: f"Person {n}")

    @classmethod
    def _create(cls, model_class: type[User], *args: Any, **kwargs: Any) -> User:
        return User.objects.create(**_with_hash(kwargs))

    @classmethod
    def _build(cls, model_class: type[User], *args: Any, **kwargs: Any) -> User:
        return User(**_with_hash(kwargs))


class ApplicationFactory(DjangoModelFactory[Application]):
    """A customer's product."""

    class Meta:
        model = Application

    name = factory.Sequence(lambda n: f"Acme Tasks {n}")
    slug = factory.Sequence(lambda n: f"acme-tasks-{n}")


class MembershipFactory(DjangoModelFactory[Membership]):
    """A role of a new person in a new application, unless given."""

    class Meta:
        model = Membership

    application = factory.SubFactory(ApplicationFactory)
    user = factory.SubFactory(UserFactory)
    role = Role.OWNER


class ProviderConfigFactory(DjangoModelFactory[ProviderConfig]):
    """Atlassian, configured."""

    class Meta:
        model = ProviderConfig

    application = factory.SubFactory(ApplicationFactory)
    provider_id = "atlassian"
    client_id = factory.Sequence(lambda n: f"{n:032d}")
    scopes = ["read:me", "offline_access", "read:jira-work", "read:jira-user"]

    @classmethod
    def _create(cls, model_class: type[ProviderConfig], *args: Any, **kwargs: Any) -> ProviderConfig:
        secret = kwargs.pop("client_secret", CLIENT_SECRET)
        config = model_class(*args, **kwargs)
        config.set_client_secret(secret)
        config.secret_set_at = timezone.now()
        config.save()
        return config


class GrantFactory(DjangoModelFactory[Grant]):
    """A fresh connection with sealed (made-up) tokens and one site.

    `access_token` and `refresh_token` may be given; None stores none.
    """

    class Meta:
        model = Grant

    provider_config = factory.SubFactory(ProviderConfigFactory)
    application = factory.SelfAttribute("provider_config.application")
    end_user = factory.Sequence(lambda n: f"user-{n}")
    status = GrantStatus.ACTIVE
    account_id = factory.Sequence(lambda n: f"712020:account-{n}")
    account_name = factory.Sequence(lambda n: f"Jo Doe {n}")
    account_email = factory.Sequence(lambda n: f"jo{n}@acme.example")
    requested_scopes = factory.SelfAttribute("provider_config.scopes")
    granted_scopes = factory.SelfAttribute("provider_config.scopes")
    access_expires_at = factory.LazyFunction(lambda: timezone.now() + dt.timedelta(minutes=50))
    refresh_due_at = factory.LazyFunction(lambda: timezone.now() + dt.timedelta(minutes=42))
    refreshed_at = factory.LazyFunction(lambda: timezone.now() - dt.timedelta(minutes=10))
    consented_at = factory.LazyFunction(timezone.now)
    confirmed_at = factory.LazyFunction(timezone.now)

    class Params:
        due = factory.Trait(
            access_expires_at=factory.LazyFunction(lambda: timezone.now() + dt.timedelta(minutes=5)),
            refresh_due_at=factory.LazyFunction(lambda: timezone.now() - dt.timedelta(minutes=1)),
        )
        expired = factory.Trait(
            access_expires_at=factory.LazyFunction(lambda: timezone.now() - dt.timedelta(minutes=5)),
            refresh_due_at=factory.LazyFunction(lambda: timezone.now() - dt.timedelta(minutes=15)),
        )
        pending = factory.Trait(status=GrantStatus.PENDING, confirmed_at=None, refresh_due_at=None)
        needs_reconnect = factory.Trait(
            status=GrantStatus.NEEDS_RECONNECT, refresh_due_at=None, cause="access was removed at Atlassian"
        )
        revoked = factory.Trait(
            status=GrantStatus.REVOKED, refresh_due_at=None, revoked_at=factory.LazyFunction(timezone.now)
        )

    @classmethod
    def _create(cls, model_class: type[Grant], *args: Any, **kwargs: Any) -> Grant:
        access = kwargs.pop("access_token", f"{CANARY}-access-token")
        refresh = kwargs.pop("refresh_token", f"{CANARY}-refresh-token")
        sites = kwargs.pop("site_names", ["acme"])
        grant = model_class(*args, **kwargs)
        grant.search_text = " ".join(
            [grant.end_user, grant.label, grant.account_name, grant.account_email, *sites]
        ).lower()
        grant.save(force_insert=True)
        if grant.status != GrantStatus.REVOKED:
            tokens = GrantTokens(grant=grant)
            seal(tokens, "access_token", access)
            seal(tokens, "refresh_token", refresh)
            tokens.save(force_insert=True)
        Site.objects.bulk_create(
            Site(
                grant=grant,
                cloud_id=f"cloud-{name}",
                name=name,
                url=f"https://{name}.atlassian.net",
                products=["Jira"],
            )
            for name in sites
        )
        return grant
