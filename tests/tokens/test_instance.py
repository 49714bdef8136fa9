"""A copy of the database may be read, and spends none of the original's tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command

from portal import instance
from portal.audit import SYSTEM
from providers.remove import remove
from tests.factories import GrantFactory, database_now
from tests.tokens.made_up import made_up_provider
from tokens.engine import drain
from tokens.errors import ForeignDatabaseError
from tokens.gate import is_held_back
from tokens.models import Grant, Trigger, UpstreamRevocation
from tokens.refresh import ensure_fresh, refresh_now
from tokens.revoke import revoke
from tokens.upstream import retry_due

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from providers.sandbox.thread import SandboxThread
    from tests.conftest import Cast

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def copied(settings: Any, db: None) -> Iterator[None]:
    """Start as another installation than the one that the database belongs to."""
    settings.INSTANCE_ID = "original"
    instance.note_first_start()
    settings.INSTANCE_ID = "copy"
    yield
    instance._answer = None


def test_a_copy_refreshes_nothing_and_says_so(
    connect: Callable[..., Grant], sandbox: SandboxThread, copied: None
) -> None:
    grant = connect(due=True)

    drain()
    with pytest.raises(ForeignDatabaseError, match="adopt_instance"):
        refresh_now(grant, trigger=Trigger.MEMBER)

    assert sandbox.ledger("/oauth/token") == []


def test_a_copy_ends_nothing_at_a_provider_until_it_is_the_original(
    sandbox: SandboxThread, tmp_path: Path, settings: Any, copied: None
) -> None:
    hub = made_up_provider(sandbox, tmp_path, settings)
    grant = revoke(GrantFactory(provider_config=hub), actor=SYSTEM)
    GrantFactory(provider_config=hub)
    remove(hub, actor=SYSTEM)
    UpstreamRevocation.objects.update(next_try_at=database_now())
    retry_due()

    assert grant.upstream_revocation == "not asked, since this is a copy of the database"
    assert sandbox.ledger("/generic/revoke") == []
    call_command("adopt_instance")
    retry_due()
    assert len(sandbox.ledger("/generic/revoke")) == 2


def test_a_worker_of_a_copy_does_not_wait_for_what_it_may_never_claim(
    connect: Callable[..., Grant], settings: Any, copied: None
) -> None:
    connect(due=True)

    assert not is_held_back()
    settings.INSTANCE_ID = "original"
    assert is_held_back()


def test_a_copy_still_serves_a_token_that_is_good(connect: Callable[..., Grant], copied: None) -> None:
    grant = connect()

    assert ensure_fresh(grant, min_ttl=timedelta(minutes=5)).pk == grant.pk


def test_a_copy_says_at_once_that_it_cannot_replace_a_token_that_has_run_out(
    connect: Callable[..., Grant], copied: None
) -> None:
    grant = connect(expired=True)

    with pytest.raises(ForeignDatabaseError):
        ensure_fresh(grant, min_ttl=timedelta(minutes=5))


def test_every_page_of_a_copy_says_so(cast: Cast, copied: None) -> None:
    page = cast.client("owner").get("/applications/").content.decode()

    assert "This database is a copy" in page


def test_adopting_it_makes_it_the_original(
    connect: Callable[..., Grant], sandbox: SandboxThread, copied: None
) -> None:
    connect(due=True)

    call_command("adopt_instance")
    drain()

    assert len(sandbox.ledger("/oauth/token")) == 1


def test_the_original_starts_again_without_a_word(
    connect: Callable[..., Grant], sandbox: SandboxThread, settings: Any, copied: None
) -> None:
    settings.INSTANCE_ID = "original"
    instance.note_first_start()
    connect(due=True)

    drain()

    assert len(sandbox.ledger("/oauth/token")) == 1


def test_adopting_without_an_id_says_what_to_do(settings: Any) -> None:
    settings.INSTANCE_ID = ""

    with pytest.raises(CommandError, match="INSTANCE_ID is not set"):
        call_command("adopt_instance")
