"""A provider without a leeway: a token that is sent twice ends the grant, so nothing is sent twice while that helps."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from bench.faults.catalog import write_catalog
from providers.models import ProviderConfig
from providers.oauth import Failure, TokenSet
from providers.spec import Outcome
from tests.factories import GrantFactory, ProviderConfigFactory
from tokens.claim import claim_due, claim_one
from tokens.clock import database_now
from tokens.commit import commit
from tokens.models import Grant, Trigger
from tokens.results import Result

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.django_db


@pytest.fixture
def grant(db: None, settings: Any, tmp_path: Path) -> Grant:
    """Return a due grant, its access token good for five minutes."""
    settings.EGRESS_PLAIN_HTTP = True
    write_catalog(tmp_path / "catalog", relay=1, plain=1)
    settings.PROVIDER_CATALOG_DIRS = [tmp_path / "catalog"]
    return GrantFactory(provider_config=ProviderConfigFactory(provider_id="strict"), due=True)


def claim_runs_out(grant: Grant) -> None:
    Grant.objects.filter(pk=grant.pk).update(claim_until=database_now() - dt.timedelta(seconds=1))


def test_a_claim_that_ran_out_is_followed_by_another_only_when_the_access_token_is_used_up(
    grant: Grant,
) -> None:
    claim_due(limit=1, trigger=Trigger.BEAT)
    claim_runs_out(grant)

    while_it_is_good = claim_due(limit=1, trigger=Trigger.BEAT)
    of_a_reader = claim_one(grant, trigger=Trigger.READER)
    Grant.objects.filter(pk=grant.pk).update(
        refresh_due_at=database_now(), next_attempt_at=database_now(), access_expires_at=database_now()
    )
    afterwards = claim_due(limit=1, trigger=Trigger.BEAT)

    assert (while_it_is_good, of_a_reader) == ([], None)
    assert [claim.grant_id for claim in afterwards] == [grant.pk]


def test_the_slow_owners_answer_is_accepted_when_its_claim_has_run_out(grant: Grant) -> None:
    (claim,) = claim_due(limit=1, trigger=Trigger.BEAT)
    claim_runs_out(grant)
    tokens = TokenSet("new-access", "new-refresh", dt.timedelta(hours=1), None)

    done = commit([Result(claim, _config(grant), tokens)])

    assert done[grant.pk].outcome == Outcome.OK
    assert Grant.objects.get().next_attempt_at is None


def test_a_refused_secret_leaves_a_grant_due_as_it_was(grant: Grant) -> None:
    (claim,) = claim_due(limit=1, trigger=Trigger.BEAT)

    commit([Result(claim, _config(grant), Failure(Outcome.CLIENT_BAD, "access_denied", 401, "refused"), 0.0)])

    after = Grant.objects.get()
    assert after.next_attempt_at is None
    assert after.refresh_due_at is not None
    assert after.refresh_due_at <= database_now()


def _config(grant: Grant) -> ProviderConfig:
    return ProviderConfig.objects.select_related("application").get(pk=grant.provider_config_id)
