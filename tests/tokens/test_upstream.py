"""What must be ended at a provider is ended there, sooner or later, and forgotten then."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from django.db import DataError, transaction
from django.urls import reverse

from portal import applications
from portal.audit import SYSTEM
from portal.encryption import unseal
from portal.instance import note_first_start
from portal.models import AuditEvent, Event
from portal.rotate import rotate
from providers import remove as removal
from providers.models import ProviderConfig
from providers.oauth import TokenSet
from providers.remove import remove
from tests.factories import CANARY, PASSWORD, GrantFactory, ProviderConfigFactory, database_now
from tests.threads import in_thread, wait_for_locks
from tests.tokens.made_up import made_up_provider
from tokens.claim import claim_one
from tokens.commit import commit
from tokens.models import Confirmation, ConnectSession, Grant, GrantStatus, Trigger, UpstreamRevocation
from tokens.results import Result
from tokens.revoke import revoke
from tokens.sessions import open_session
from tokens.tasks import end_upstream, housekeeping
from tokens.upstream import PAUSES, retry_due

if TYPE_CHECKING:
    from pathlib import Path

    from providers.sandbox.thread import SandboxThread
    from tests.conftest import Cast

pytestmark = pytest.mark.django_db(transaction=True)

REVOKE = "/generic/revoke"


@pytest.fixture
def hub(sandbox: SandboxThread, tmp_path: Path, settings: Any) -> ProviderConfig:
    return made_up_provider(sandbox, tmp_path, settings)


def due_now() -> None:
    UpstreamRevocation.objects.update(next_try_at=database_now())


def said(grant: Grant) -> str:
    return Grant.objects.get(pk=grant.pk).upstream_revocation


def test_what_the_provider_ends_at_once_leaves_nothing_behind(
    hub: ProviderConfig, sandbox: SandboxThread
) -> None:
    grant = GrantFactory(provider_config=hub)

    revoke(grant, actor=SYSTEM)

    assert said(grant) == "ended at the provider"
    assert not UpstreamRevocation.objects.exists()


def test_a_provider_that_is_down_is_asked_again_with_the_token_sealed_meanwhile_c1(
    hub: ProviderConfig, sandbox: SandboxThread
) -> None:
    grant = GrantFactory(provider_config=hub)
    sandbox.fault("status_before", on=REVOKE, status=503)

    revoke(grant, actor=SYSTEM)
    first, row = said(grant), UpstreamRevocation.objects.get()
    sealed, opened = bytes(row.token), unseal(row, "token")
    retry_due()
    too_early = len(sandbox.ledger(REVOKE))
    due_now()
    retry_due()

    assert first == "the provider answered with status 503; we try again"
    assert CANARY.encode() not in sealed
    assert opened == f"{CANARY}-refresh-token"
    assert too_early == 1
    assert said(grant) == "ended at the provider"
    assert not UpstreamRevocation.objects.exists()


def test_after_the_last_try_the_token_is_erased_and_the_page_says_so(
    hub: ProviderConfig, sandbox: SandboxThread
) -> None:
    grant = GrantFactory(provider_config=hub)
    sandbox.fault("status_before", on=REVOKE, status=503, times=-1)
    revoke(grant, actor=SYSTEM)

    for _ in PAUSES:
        due_now()
        retry_due()

    assert len(sandbox.ledger(REVOKE)) == len(PAUSES) + 1
    assert said(grant) == "the provider answered with status 503; we gave up after 8 tries"
    assert not UpstreamRevocation.objects.exists()


def test_a_deleted_provider_is_asked_to_end_every_connection_whatever_became_of_the_rest(
    hub: ProviderConfig, sandbox: SandboxThread
) -> None:
    GrantFactory.create_batch(3, provider_config=hub)
    GrantFactory(provider_config=hub, revoked=True)
    sandbox.fault("status_before", on=REVOKE, status=503, times=2)
    revoke(GrantFactory(provider_config=hub), actor=SYSTEM)
    due_now()

    applications.delete(hub.application, actor=SYSTEM)
    asked_meanwhile = len(sandbox.ledger(REVOKE))
    written = UpstreamRevocation.objects.count()
    rotate()
    after = retry_due()
    due_now()
    retry_due()

    assert (asked_meanwhile, written, after) == (1, 4, None)
    assert not Grant.objects.exists()
    # Once each, and once more for the two that got a 503.
    assert len(sandbox.ledger(REVOKE)) == 6
    assert not UpstreamRevocation.objects.exists()


def test_the_page_says_what_becomes_of_connections_that_a_provider_can_end(
    hub: ProviderConfig, sandbox: SandboxThread, cast: Cast, settings: Any
) -> None:
    ProviderConfig.objects.filter(pk=hub.pk).update(application=cast.application)
    hub = ProviderConfig.objects.get(pk=hub.pk)
    hub.set_client_secret("a secret of its own")
    hub.save()
    GrantFactory(provider_config=hub)
    client, url = cast.client("owner"), reverse("provider-delete", args=["acme-tasks", "plainhub"])
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})

    settings.INSTANCE_ID = "the original"
    note_first_start()
    settings.INSTANCE_ID = "a copy"
    on_a_copy = client.get(url).content.decode()
    settings.INSTANCE_ID = "the original"
    asked = client.get(url).content.decode()
    done = client.post(url, follow=True).content.decode()

    assert "The provider itself is not told" in on_a_copy
    assert "Plainhub is asked to end the access of each" in asked
    assert "1 connection went with it. Plainhub is now asked to end the access of each" in done
    assert sandbox.ledger(REVOKE) == []
    assert UpstreamRevocation.objects.count() == 1


@pytest.mark.parametrize("is_erased", [False, True])
def test_a_pair_that_came_after_the_revocation_or_the_deletion_is_ended_too(
    hub: ProviderConfig, sandbox: SandboxThread, is_erased: bool
) -> None:
    grant = GrantFactory(provider_config=hub, due=True)
    claim = claim_one(grant, trigger=Trigger.BEAT)
    assert claim is not None
    if is_erased:
        remove(hub, actor=SYSTEM)
        retry_due()
    else:
        revoke(grant, actor=SYSTEM)

    commit([Result(claim, hub, TokenSet("late-access", "late-refresh", timedelta(hours=1), None))])
    late = unseal(UpstreamRevocation.objects.get(), "token")
    retry_due()

    assert late == "late-refresh"
    assert len(sandbox.ledger(REVOKE)) == 2
    assert not UpstreamRevocation.objects.exists()


def test_two_who_delete_at_once_and_a_worker_that_ends_do_it_once(
    hub: ProviderConfig, sandbox: SandboxThread
) -> None:
    GrantFactory.create_batch(4, provider_config=hub)
    sandbox.fault("status_before", on=REVOKE, status=503)
    revoke(GrantFactory(provider_config=hub), actor=SYSTEM)
    due_now()

    # Each request reads its own, as Django empties the key of what it deleted.
    read = [ProviderConfig.objects.get() for _ in range(2)]
    work = [partial(remove, one, actor=SYSTEM) for one in read] + [retry_due, retry_due]
    for future in [in_thread(one) for one in work]:
        future.result()
    retry_due()

    assert not ProviderConfig.objects.exists()
    assert not UpstreamRevocation.objects.exists()
    assert AuditEvent.objects.filter(event=Event.PROVIDER_DELETED).count() == 1
    assert len(sandbox.ledger(REVOKE)) == 6


@pytest.mark.parametrize("of", ["provider", "application"])
def test_what_an_import_stores_while_a_deletion_runs_goes_too_and_is_ended(
    hub: ProviderConfig, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    module, thing = (removal, hub) if of == "provider" else (applications, hub.application)
    late = iter([1])

    def store_one(taken: Any, actor: Any) -> None:
        for _ in late:
            GrantFactory(provider_config=hub)

    monkeypatch.setattr(module, "before_delete", [*module.before_delete, store_one])
    GrantFactory(provider_config=hub)
    read_before = type(thing).objects.get()

    delete = remove if of == "provider" else applications.delete
    delete(thing, actor=SYSTEM)
    delete(read_before, actor=SYSTEM)
    retry_due()

    assert not type(thing).objects.exists()
    assert len(sandbox.ledger(REVOKE)) == 2
    assert AuditEvent.objects.filter(event=f"{of}:deleted").count() == 1


def test_a_consent_that_is_just_being_stored_is_waited_for_and_ended_too(
    hub: ProviderConfig, sandbox: SandboxThread
) -> None:
    repaired = GrantFactory(provider_config=hub)
    session, _ = open_session(hub, end_user="user-1", confirmation=Confirmation.MEMBER, actor=SYSTEM)

    with transaction.atomic():
        ConnectSession.objects.select_for_update().get(pk=session.pk)
        deletion = in_thread(partial(remove, hub, actor=SYSTEM))
        wait_for_locks(1)
        Grant.objects.select_for_update(nowait=True).get(pk=repaired.pk)
        GrantFactory(provider_config=hub)
    deletion.result()
    retry_due()

    assert revoke(repaired, actor=SYSTEM).status == GrantStatus.REVOKED
    assert not Grant.objects.exists()
    assert len(sandbox.ledger(REVOKE)) == 2


def test_a_provider_that_asks_to_slow_down_is_given_the_time_and_no_try_is_lost(
    hub: ProviderConfig, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokens.upstream.BATCH", 2)
    GrantFactory.create_batch(3, provider_config=hub)
    sandbox.fault("status_before", on=REVOKE, status=429, retry_after=7, times=4)
    said_at_once = revoke(GrantFactory(provider_config=hub), actor=SYSTEM).upstream_revocation
    remove(hub, actor=SYSTEM)

    proposed: list[timedelta] = []
    monkeypatch.setattr("tokens.upstream.propose", lambda *_, after, **__: proposed.append(after))
    end_upstream()
    end_upstream()
    asked, tries = (
        len(sandbox.ledger(REVOKE)),
        set(UpstreamRevocation.objects.values_list("tries", flat=True)),
    )
    due_now()

    assert said_at_once == "the provider answered with status 429; we try again"
    assert (proposed, asked, tries) == ([timedelta(seconds=7)] * 2, 4, {0})
    assert retry_due() is None
    assert not UpstreamRevocation.objects.exists()


def test_a_provider_that_does_not_answer_holds_up_no_other(
    hub: ProviderConfig, sandbox: SandboxThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokens.upstream.BATCH", 2)
    other = ProviderConfigFactory(provider_id="plainhub")
    for config, number in ((hub, 6), (other, 1)):
        GrantFactory.create_batch(number, provider_config=config)
        remove(config, actor=SYSTEM)
    sandbox.fault("drop_before_commit", on=REVOKE, times=2)

    after = retry_due()

    assert after is None
    # Two were tried in vain, four were not, and the other provider's is ended.
    assert sorted(UpstreamRevocation.objects.values_list("tries", flat=True)) == [0, 0, 0, 0, 1, 1]
    # Nor do the four take the next round's time.
    assert not UpstreamRevocation.objects.filter(next_try_at__lte=database_now()).exists()
    assert len(sandbox.ledger(REVOKE)) == 3


def test_what_nobody_came_to_try_is_kept_for_a_week_at_most(
    hub: ProviderConfig, sandbox: SandboxThread
) -> None:
    grants = GrantFactory.create_batch(2, provider_config=hub)
    sandbox.fault("status_before", on=REVOKE, status=503, times=2)
    for grant in grants:
        revoke(grant, actor=SYSTEM)
    old = UpstreamRevocation.objects.filter(grant=grants[0])
    old.update(created_at=database_now() - timedelta(days=8))

    housekeeping()

    assert UpstreamRevocation.objects.get().grant_id == grants[1].pk
    assert said(grants[0]) == "the provider did not end it in 7 days; we gave up"
    assert said(grants[1]).endswith("we try again")


def test_a_deletion_that_fails_leaves_connections_and_no_order_to_end_them(
    hub: ProviderConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    GrantFactory(provider_config=hub)
    monkeypatch.setattr("tokens.erase.STATEMENTS", ("SELECT 1/0",))

    with pytest.raises(DataError):
        remove(hub, actor=SYSTEM)

    assert Grant.objects.alive().count() == 1
    assert not UpstreamRevocation.objects.exists()


def test_a_process_that_dies_before_it_asks_leaves_the_order_behind(
    hub: ProviderConfig, sandbox: SandboxThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = GrantFactory(provider_config=hub)

    def die(row: UpstreamRevocation) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("tokens.upstream.try_to_end", die)
    with pytest.raises(KeyboardInterrupt):
        revoke(grant, actor=SYSTEM)
    monkeypatch.undo()
    due_now()
    retry_due()

    assert said(grant) == "ended at the provider"


def test_where_the_provider_has_no_way_nothing_is_kept() -> None:
    grant = GrantFactory()

    revoke(grant, actor=SYSTEM)

    assert said(grant) == "Atlassian has no way for us to end it there"
    assert not UpstreamRevocation.objects.exists()
