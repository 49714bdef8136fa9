"""What a consent brings is stored: a new grant, or the same one repaired in place."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from portal.audit import SYSTEM
from portal.encryption import unseal
from portal.models import AuditEvent, Event
from providers.oauth import TokenSet
from providers.sites import SiteInfo
from tests.factories import CANARY, ApplicationFactory, GrantFactory, ProviderConfigFactory
from tests.tokens.connecting import opened
from tokens.clock import database_now
from tokens.exchanged import Account, Exchanged
from tokens.models import Confirmation, Grant, GrantStatus, GrantTokens
from tokens.store import store_grant

if TYPE_CHECKING:
    from providers.models import ProviderConfig

pytestmark = pytest.mark.django_db

ACME = SiteInfo("cloud-acme", "acme", "https://acme.atlassian.example", ("Jira",), ("read:jira-work",))
LABS = SiteInfo("cloud-labs", "labs", "https://labs.atlassian.example", ("Confluence",), ())


@pytest.fixture
def config(db: None) -> ProviderConfig:
    return ProviderConfigFactory.create()


def brought(account: str = "712020:jo", **changes: Any) -> Exchanged:
    """Return what an exchange brought."""
    tokens = TokenSet(
        access_token=changes.pop("access", f"{CANARY}-new-access"),
        refresh_token=changes.pop("refresh", f"{CANARY}-new-refresh"),
        lifetime=changes.pop("lifetime", dt.timedelta(hours=1)),
        scopes=changes.pop("scopes", None),
    )
    return Exchanged(
        tokens=tokens,
        account=Account(account, changes.pop("name", "Jo Doe"), "jo@acme.example"),
        sites=changes.pop("sites", (ACME, LABS)),
        requested=("read:me", "offline_access", "read:jira-work"),
        received_at=changes.pop("received_at", None) or database_now(),
    )


def store(
    config: ProviderConfig, exchanged: Exchanged, chosen: list[str] | None = None, **session: Any
) -> Grant:
    """Store for a fresh session."""
    made, _ = opened(config, **session)
    return store_grant(made, exchanged, chosen=["cloud-acme"] if chosen is None else chosen, actor=SYSTEM)


def test_a_new_connection_waits_for_its_confirmation(config: ProviderConfig) -> None:
    grant = store(config, brought())

    assert grant.status == GrantStatus.PENDING
    assert grant.confirmed_at is None
    assert grant.refresh_due_at is None
    assert grant.gen == 1


def test_a_members_own_test_is_active_at_once_and_has_its_refresh_planned(config: ProviderConfig) -> None:
    grant = store(config, brought(), confirmation=Confirmation.LOGIN)

    now = database_now()
    assert grant.status == GrantStatus.ACTIVE
    assert grant.refresh_due_at is not None
    assert grant.access_expires_at is not None
    assert now < grant.refresh_due_at < grant.access_expires_at
    assert grant.refresh_due_at > grant.access_expires_at - dt.timedelta(minutes=10)


def test_tokens_are_sealed_and_open_again(config: ProviderConfig) -> None:
    grant = store(config, brought())

    tokens = GrantTokens.objects.get(grant=grant)
    assert CANARY.encode() not in bytes(tokens.access_token) + bytes(tokens.refresh_token)
    assert unseal(tokens, "access_token") == f"{CANARY}-new-access"
    assert unseal(tokens, "refresh_token") == f"{CANARY}-new-refresh"


def test_the_same_account_of_the_same_end_user_keeps_its_id_and_gets_the_new_tokens(
    config: ProviderConfig,
) -> None:
    first = store(config, brought())

    again = store(config, brought(access="second", refresh="second-refresh", name="Jo D."))

    tokens = GrantTokens.objects.get(grant=again)
    assert again.pk == first.pk
    assert Grant.objects.count() == 1
    assert (unseal(tokens, "access_token"), unseal(tokens, "refresh_token")) == ("second", "second-refresh")
    assert again.gen == first.gen + 1
    assert again.account_name == "Jo D."
    events = AuditEvent.objects.about_grant(again.pk).order_by("id").values_list("event", flat=True)
    assert list(events) == [Event.GRANT_CONNECTED, Event.GRANT_RECONNECTED]


def test_another_account_makes_a_second_connection_that_waits_for_itself(config: ProviderConfig) -> None:
    first = store(config, brought(), confirmation=Confirmation.LOGIN)

    second = store(config, brought("712020:another"))

    first.refresh_from_db()
    assert second.pk != first.pk
    assert (first.status, second.status) == (GrantStatus.ACTIVE, GrantStatus.PENDING)


def test_the_same_account_of_another_end_user_is_another_connection(config: ProviderConfig) -> None:
    first = store(config, brought(), end_user="user-1")

    second = store(config, brought(), end_user="user-2")

    assert first.pk != second.pk


def test_the_same_end_user_and_account_in_another_application_is_another_connection(
    config: ProviderConfig,
) -> None:
    elsewhere = ProviderConfigFactory.create(application=ApplicationFactory.create())

    first, second = store(config, brought()), store(elsewhere, brought())

    assert first.pk != second.pk
    assert second.application_id == elsewhere.application_id


def test_a_connection_that_needs_reconnecting_is_repaired_and_active(config: ProviderConfig) -> None:
    broken = GrantFactory.create(
        provider_config=config,
        end_user="user-1",
        account_id="712020:jo",
        needs_reconnect=True,
        fail_outcome="grant_dead",
        fail_count=3,
        gen=7,
    )

    repaired = store(config, brought(), reconnect_grant=broken)

    assert repaired.pk == broken.pk
    assert repaired.status == GrantStatus.ACTIVE
    assert (repaired.fail_outcome, repaired.fail_count, repaired.cause) == ("", 0, "")
    assert repaired.gen == 8
    assert repaired.refresh_due_at is not None


def test_a_connection_with_unreadable_or_missing_tokens_is_repaired(config: ProviderConfig) -> None:
    broken = GrantFactory.create(
        provider_config=config, end_user="user-1", account_id="712020:jo", needs_reconnect=True
    )
    GrantTokens.objects.filter(grant=broken).update(access_token=b"damaged", refresh_token=b"damaged")
    store(config, brought())
    GrantTokens.objects.all().delete()

    repaired = store(config, brought())

    assert unseal(GrantTokens.objects.get(grant=repaired), "access_token") == f"{CANARY}-new-access"


def test_a_revoked_connection_stays_revoked_and_a_new_one_waits(config: ProviderConfig) -> None:
    revoked = GrantFactory.create(
        provider_config=config, end_user="user-1", account_id="712020:jo", revoked=True
    )

    new = store(config, brought())

    revoked.refresh_from_db()
    assert new.pk != revoked.pk
    assert (revoked.status, new.status) == (GrantStatus.REVOKED, GrantStatus.PENDING)


def test_a_waiting_connection_that_is_connected_again_still_waits(config: ProviderConfig) -> None:
    store(config, brought())

    again = store(config, brought())

    assert again.status == GrantStatus.PENDING
    assert again.confirmed_at is None


def test_a_refresh_under_way_for_the_old_tokens_is_fenced_off(config: ProviderConfig) -> None:
    import uuid

    busy = GrantFactory.create(
        provider_config=config,
        end_user="user-1",
        account_id="712020:jo",
        gen=4,
        inflight_gen=4,
        inflight_since=database_now(),
        claim_owner=uuid.uuid4(),
        claim_until=database_now() + dt.timedelta(minutes=1),
    )

    again = store(config, brought())

    assert again.pk == busy.pk
    assert again.gen == 5
    assert (again.claim_owner, again.claim_until) == (None, None)
    assert (again.inflight_gen, again.inflight_since) == (None, None)


def test_all_sites_are_stored_and_only_the_chosen_ones_are_chosen(config: ProviderConfig) -> None:
    grant = store(config, brought(), chosen=["cloud-labs"])

    assert dict(grant.sites.values_list("name", "is_chosen")) == {"acme": False, "labs": True}
    site = grant.sites.get(name="acme")
    assert (site.url, site.products, site.scopes) == (ACME.url, ["Jira"], ["read:jira-work"])
    event = AuditEvent.objects.get(event=Event.GRANT_CONNECTED)
    assert event.detail["sites"] == ["labs"]


def test_sites_that_are_gone_go_and_the_search_finds_the_chosen_ones(config: ProviderConfig) -> None:
    store(config, brought(), chosen=["cloud-acme", "cloud-labs"])

    grant = store(config, brought(sites=(LABS,)), chosen=["cloud-labs"])

    assert list(grant.sites.values_list("name", flat=True)) == ["labs"]
    assert "labs" in grant.search_text
    assert "acme.atlassian" not in grant.search_text
    assert "jo@acme.example" in grant.search_text


def test_scopes_that_the_answer_names_count_and_otherwise_what_was_asked_for(config: ProviderConfig) -> None:
    named = store(config, brought(scopes=("read:me",)), end_user="user-1")
    silent = store(config, brought(), end_user="user-2")

    assert named.granted_scopes == ["read:me"]
    assert named.missing_scopes == ["offline_access", "read:jira-work"]
    assert silent.granted_scopes == ["read:me", "offline_access", "read:jira-work"]
    assert silent.missing_scopes == []


def test_an_access_token_that_was_received_long_ago_expires_by_when_it_was_received(
    config: ProviderConfig,
) -> None:
    received = database_now() - dt.timedelta(hours=2)

    grant = store(config, brought(received_at=received), confirmation=Confirmation.LOGIN)

    assert grant.access_expires_at == received + dt.timedelta(hours=1)
    assert grant.refresh_due_at is not None
    assert grant.refresh_due_at <= database_now()


def test_a_connection_without_a_refresh_token_is_stored_as_it_is(config: ProviderConfig) -> None:
    grant = store(config, brought(refresh=None))

    assert unseal(GrantTokens.objects.get(grant=grant), "refresh_token") is None


def test_what_waits_for_the_choice_reads_back_as_it_was() -> None:
    exchanged = Exchanged(
        tokens=TokenSet("a", None, dt.timedelta(seconds=90), ("read:me",)),
        account=Account("712020:jo"),
        sites=(ACME,),
        requested=("read:me",),
        received_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    endless = Exchanged(
        tokens=TokenSet("a", "r", None, None),
        account=Account("1", "Jo", "jo@acme.example"),
        sites=(),
        requested=(),
        received_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )

    assert Exchanged.loads(exchanged.dumps()) == exchanged
    assert Exchanged.loads(endless.dumps()) == endless
