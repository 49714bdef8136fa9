"""The page that says which connections are kept fresh, and how hard the provider may be called."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from django.urls import reverse

from portal.models import AuditEvent, Event
from tests.factories import PASSWORD, ProviderConfigFactory

if TYPE_CHECKING:
    from typing import Any

    from providers.models import ProviderConfig
    from tests.conftest import Cast

pytestmark = pytest.mark.django_db

ALWAYS = {"freshness": "always", "fresh_days": "7", "max_parallel": "", "max_per_second": ""}


@pytest.fixture
def config(cast: Cast) -> ProviderConfig:
    return ProviderConfigFactory(application=cast.application)


def url(name: str = "provider-freshness", provider_id: str = "atlassian") -> str:
    return reverse(name, args=["acme-tasks", provider_id])


def text(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def test_a_policy_is_chosen_with_its_days_and_limits_and_is_on_record(
    cast: Cast, config: ProviderConfig
) -> None:
    order = {"freshness": "used", "fresh_days": "14", "max_parallel": "20", "max_per_second": "5"}

    response = cast.client("admin").post(url(), order, follow=True)

    config.refresh_from_db()
    assert (config.freshness, config.fresh_days) == ("used", 14)
    assert (config.max_parallel, config.max_per_second) == (20, 5)
    assert config.replan_since is not None
    assert "Fresh if used lately: in the last 14 days" in text(response)
    assert "at most 20 under way, 5 a second" in text(response)
    event = AuditEvent.objects.get(event=Event.PROVIDER_CHANGED)
    assert event.detail["freshness"] == "used"


def test_limits_alone_plan_nothing_anew(cast: Cast, config: ProviderConfig) -> None:
    cast.client("admin").post(url(), {**ALWAYS, "max_parallel": "3"})

    config.refresh_from_db()
    assert config.max_parallel == 3
    assert config.replan_since is None


def test_what_changes_nothing_is_not_on_record(cast: Cast, config: ProviderConfig) -> None:
    response = cast.client("admin").post(url(), ALWAYS, follow=True)

    assert "Nothing was changed" in text(response)
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("freshness", "never"),
        ("fresh_days", "0"),
        ("fresh_days", "366"),
        ("max_parallel", "0"),
        ("max_per_second", "x"),
    ],
)
def test_what_makes_no_sense_is_refused_with_words(
    cast: Cast, config: ProviderConfig, field: str, value: str
) -> None:
    response = cast.client("admin").post(url(), {**ALWAYS, field: value})

    assert "needs your attention" in text(response)
    config.refresh_from_db()
    assert (config.freshness, config.fresh_days, config.max_parallel) == ("always", 7, None)


def test_the_page_explains_what_each_choice_costs(cast: Cast, config: ProviderConfig) -> None:
    page = text(cast.client("owner").get(url()))

    assert "losses grow with the number of refreshes" in page
    assert "fails while Atlassian is down" in page
    assert "not refreshed for 90 days, so idle connections are refreshed after 15 to 30" in page
    assert "Left empty: 250." in page


@pytest.mark.parametrize("who", ["support", "auditor", "stranger", "anonymous"])
def test_nobody_else_may_choose(cast: Cast, config: ProviderConfig, who: str) -> None:
    response = cast.client(who).post(url(), {**ALWAYS, "freshness": "on_demand"})

    config.refresh_from_db()
    assert response.status_code == {"anonymous": 302, "stranger": 404}.get(who, 403)
    assert config.freshness == "always"


def test_somebody_elses_provider_and_one_without_a_file_are_not_found(cast: Cast) -> None:
    ProviderConfigFactory(application=cast.strangers_application)
    ProviderConfigFactory(application=cast.application, provider_id="gone")

    assert cast.client("owner").get(url()).status_code == 404
    assert cast.client("owner").get(url(provider_id="gone")).status_code == 404
    assert cast.client("owner").put(url()).status_code == 405


def test_the_hold_is_ended_by_who_knows_that_they_are_over(cast: Cast, config: ProviderConfig) -> None:
    config.note_problem("many_refused")
    client = cast.client("admin")

    shown = client.get(url("provider-detail"))
    stopped = client.post(url("provider-let-end"))
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    asked = client.get(url("provider-let-end"))
    done = client.post(url("provider-let-end"), follow=True)
    again = client.post(url("provider-let-end"), follow=True)

    assert "They really are over" in text(shown)
    # A browser that was left alone ends nothing (G10).
    assert stopped["Location"].startswith(reverse("account_reauthenticate"))
    assert "Let refused connections end?" in text(asked)
    assert "refuses end now" in text(done)
    assert "no connection's end is held" in text(again).lower().replace("&#x27;", "'")
    config.refresh_from_db()
    assert config.problem_code == ""
    assert config.replan_since is not None


def test_who_may_not_change_providers_is_shown_the_problem_without_the_button(
    cast: Cast, config: ProviderConfig
) -> None:
    config.note_problem("many_refused")

    shown = text(cast.client("support").get(url("provider-detail")))

    assert "refused many connections at once" in shown
    assert "They really are over" not in shown
