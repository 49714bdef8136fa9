"""Which sites a connection is for: the person chooses, never we."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal.models import AuditEvent, Event
from providers.sandbox.people import ACME, ACME_LABS, GLOBEX, INITECH
from tests.factories import CANARY
from tests.tokens.connecting import Browser, configured, exchanges, only_grant, opened
from tokens.housekeeping import tidy
from tokens.import_grants import look_at_imported
from tokens.models import ConnectSession, Grant, GrantStatus
from tokens.models.connect import SessionStatus

if TYPE_CHECKING:
    from pytest_django.fixtures import DjangoAssertNumQueries

    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db


@pytest.fixture
def config(sandbox: SandboxThread) -> ProviderConfig:
    return configured(sandbox)


def chosen() -> set[str]:
    """Return the names of the sites that the only grant is for."""
    return set(only_grant().sites.filter(is_chosen=True).values_list("name", flat=True))


def test_one_site_is_taken_without_a_question(config: ProviderConfig, sandbox: SandboxThread) -> None:
    _, token = opened(config)

    Browser(sandbox, account="sam").arrive(token)

    assert chosen() == {"acme"}


def test_a_site_that_was_chosen_at_the_provider_is_not_asked_for_again(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    sandbox.set(grant_type="resource")
    _, token = opened(config)

    Browser(sandbox, account="jo").arrive(token, sites=["acme-labs"])

    assert chosen() == {"acme-labs"}


def test_several_sites_are_shown_all_ticked_and_nothing_is_stored_before_the_choice(
    config: ProviderConfig, sandbox: SandboxThread, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox, account="jo")
    came_back = browser.go(token)

    with django_assert_max_num_queries(10):
        page = browser.follow(came_back)

    text = page.content.decode()
    assert "Which sites are for Acme Tasks?" in text
    assert text.count(" checked") == 2
    assert ACME.url in text
    assert ACME_LABS.url in text
    assert "Jira" in text
    assert not Grant.objects.exists()


def test_some_of_the_sites_can_be_chosen(config: ProviderConfig, sandbox: SandboxThread) -> None:
    session, token = opened(config)
    browser = Browser(sandbox, account="jo")
    browser.go(token)

    response = browser.client.post(
        reverse("connect-sites", args=[session.pk]), {"sites": [ACME_LABS.cloud_id]}
    )

    assert response.status_code == 303
    assert chosen() == {"acme-labs"}
    assert only_grant().sites.count() == 2
    result = browser.follow(response).content.decode()
    assert "acme-labs" in result
    assert ACME.url not in result


def test_a_site_that_is_listed_twice_is_one_with_the_products_of_both(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    config.scopes = [*config.scopes, "read:confluence-content.all"]
    config.save()
    sandbox.set(duplicate_containers=True, shuffle_resources=True)
    session, token = opened(config)
    browser = Browser(sandbox, account="lee")
    browser.go(token)

    browser.client.post(
        reverse("connect-sites", args=[session.pk]), {"sites": [GLOBEX.cloud_id, INITECH.cloud_id]}
    )

    globex = only_grant().sites.get(cloud_id=GLOBEX.cloud_id)
    assert globex.products == ["Jira", "Confluence"]
    assert chosen() == {"globex", "initech"}


@pytest.mark.parametrize(
    "sent", [{}, {"sites": []}, {"sites": ["somebody-elses"]}, {"sites": [ACME.cloud_id, "x"]}]
)
def test_a_choice_that_makes_no_sense_is_asked_again(
    config: ProviderConfig, sandbox: SandboxThread, sent: dict[str, Any]
) -> None:
    session, token = opened(config)
    browser = Browser(sandbox, account="jo")
    browser.go(token)

    page = browser.client.post(reverse("connect-sites", args=[session.pk]), sent)

    assert page.status_code == 400
    assert "needs your attention" in page.content.decode()
    assert not Grant.objects.exists()


def test_a_second_press_or_a_second_tab_gets_a_sentence(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config)
    browser = Browser(sandbox, account="jo")
    browser.go(token)
    url = reverse("connect-sites", args=[session.pk])
    browser.client.post(url, {"sites": [ACME.cloud_id]})

    again = browser.client.post(url, {"sites": [ACME_LABS.cloud_id]})
    back = browser.client.get(url)

    assert again.status_code == 409
    assert "The sites are chosen already" in again.content.decode()
    assert f'data-shown-once="{url}"' in again.content.decode()
    assert reverse("connect-result", args=[session.pk]) in again.content.decode()
    assert back["Location"] == reverse("connect-result", args=[session.pk])
    assert chosen() == {"acme"}


def test_reloading_the_callback_leads_back_to_the_choice(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config)
    browser = Browser(sandbox, account="jo")
    url = browser.consent(browser.start(token))
    browser.callback(url)

    page = browser.callback(url)

    assert browser.follow(page)["Location"] == reverse("connect-sites", args=[session.pk])
    assert len(exchanges(sandbox)) == 1


def test_the_earlier_choice_is_ticked_when_the_same_account_connects_again(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    browser = Browser(sandbox, account="jo")
    first, token = opened(config)
    browser.go(token)
    browser.client.post(reverse("connect-sites", args=[first.pk]), {"sites": [ACME_LABS.cloud_id]})

    page = browser.arrive(opened(config)[1]).content.decode()

    assert page.count(" checked") == 1
    assert f'value="{ACME_LABS.cloud_id}" checked' in page


def test_another_choice_is_audited_with_what_came_and_went_and_the_same_one_is_not(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    browser = Browser(sandbox, account="jo")
    for choice in ([ACME_LABS], [ACME_LABS], [ACME]):
        # An import that nobody has looked at yet must not undo it.
        Grant.objects.update(status=GrantStatus.ACTIVE, undiscovered_since=timezone.now())
        session, token = opened(config)
        browser.go(token)
        browser.client.post(
            reverse("connect-sites", args=[session.pk]), {"sites": [site.cloud_id for site in choice]}
        )
    look_at_imported()

    changed = AuditEvent.objects.get(event=Event.GRANT_SITES_CHANGED)
    assert changed.detail == {"added": ["acme"], "removed": ["acme-labs"]}
    assert changed.actor_name == "user-1"
    assert chosen() == {"acme"}


def test_tokens_that_wait_for_a_choice_are_sealed_and_erased_with_it(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config)
    browser = Browser(sandbox, account="jo")
    browser.go(token)
    waiting = ConnectSession.objects.get(pk=session.pk)

    browser.client.post(reverse("connect-sites", args=[session.pk]), {"sites": [ACME.cloud_id]})

    assert waiting.exchanged is not None
    assert b"access_token" not in bytes(waiting.exchanged)
    assert CANARY.encode() not in bytes(waiting.exchanged)
    assert ConnectSession.objects.get(pk=session.pk).exchanged is None


def test_a_choice_that_nobody_made_ends_with_the_session(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config)
    browser = Browser(sandbox, account="jo")
    browser.go(token)
    url = reverse("connect-sites", args=[session.pk])
    ConnectSession.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))

    too_late = browser.client.post(url, {"sites": [ACME.cloud_id]})
    tidy()
    tidied = browser.client.get(reverse("connect-result", args=[session.pk]))

    assert too_late.status_code == tidied.status_code == 410
    session.refresh_from_db()
    assert (session.status, session.failure, session.exchanged) == (SessionStatus.FAILED, "abandoned", None)
    assert not Grant.objects.exists()


def test_a_link_pressed_late_still_leaves_half_an_hour_to_choose(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config)
    browser = Browser(sandbox, account="jo")
    url = browser.consent(browser.start(token))
    ConnectSession.objects.update(expires_at=timezone.now() + dt.timedelta(seconds=5))

    browser.callback(url)

    session.refresh_from_db()
    assert session.expires_at > timezone.now() + dt.timedelta(minutes=29)


def test_a_provider_that_is_switched_off_before_the_choice_connects_nothing(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config)
    browser = Browser(sandbox, account="jo")
    browser.go(token)
    config.is_enabled = False
    config.save()

    page = browser.client.post(reverse("connect-sites", args=[session.pk]), {"sites": [ACME.cloud_id]})

    assert page.status_code == 403
    assert not Grant.objects.exists()


def test_names_of_sites_are_escaped(config: ProviderConfig, sandbox: SandboxThread) -> None:
    session, token = opened(config)
    browser = Browser(sandbox, account="jo")
    browser.go(token)
    session = ConnectSession.objects.get(pk=session.pk)
    _rename_site(session, "<script>alert(1)</script>")

    page = browser.client.get(reverse("connect-sites", args=[session.pk])).content.decode()

    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def _rename_site(session: ConnectSession, name: str) -> None:
    from dataclasses import replace

    from portal.encryption import seal
    from tokens.connect import waiting_exchange

    exchanged = waiting_exchange(session)
    assert exchanged
    renamed = (replace(exchanged.sites[0], name=name), *exchanged.sites[1:])
    seal(session, "exchanged", replace(exchanged, sites=renamed).dumps())
    session.save()


def test_the_choice_of_another_browser_is_not_there(config: ProviderConfig, sandbox: SandboxThread) -> None:
    session, token = opened(config)
    Browser(sandbox, account="jo").go(token)

    page = Client().get(reverse("connect-sites", args=[session.pk]))

    assert page.status_code == 404
