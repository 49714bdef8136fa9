"""Statements A1 to A18: connecting can't be forged, replayed, redirected or finished by somebody else.

The provider's ledger is the judge: where something is refused, no code may have been exchanged.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import threading
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import DisallowedHost
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from portal.audit import SYSTEM
from portal.encryption import seal, unseal
from portal.models import AuditEvent, Event
from providers.sandbox.people import ACME, ACME_LABS
from tests.factories import ApplicationFactory, GrantFactory, UserFactory
from tests.tokens.connecting import (
    RETURN_ORIGIN,
    RETURN_URL,
    Browser,
    configured,
    exchanges,
    only_grant,
    opened,
    path_of,
    query_of,
)
from tokens.confirm import exchange_return_code
from tokens.connect import is_allowed_return_url, open_session, start
from tokens.errors import BadReturnUrlError, NotRefreshableError, ReturnCodeError
from tokens.models import AuthorizationRequest, Confirmation, ConnectSession, Grant, GrantStatus, Trigger
from tokens.models.connect import SessionStatus
from tokens.refresh import ensure_fresh, refresh_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.models import ProviderConfig
    from providers.sandbox.people import Site
    from providers.sandbox.thread import SandboxThread

pytestmark = pytest.mark.django_db


@pytest.fixture
def config(sandbox: SandboxThread) -> ProviderConfig:
    return configured(sandbox)


def member_browser(sandbox: SandboxThread, user: Any) -> Browser:
    browser = Browser(sandbox)
    browser.client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return browser


# --- A1: a click, and a CSRF token ---------------------------------------------------------------------------------


def test_a1_a_bare_get_never_leads_to_the_provider(config: ProviderConfig, sandbox: SandboxThread) -> None:
    _, token = opened(config)
    client = Client()

    start = client.get(reverse("connect-start", args=[token]))
    page = client.get(reverse("connect-page", args=[token]))

    assert start.status_code == 405
    assert page.status_code == 200
    assert not AuthorizationRequest.objects.exists()
    assert 'name="csrfmiddlewaretoken"' in page.content.decode()


def test_a1_the_button_without_its_csrf_token_does_nothing(config: ProviderConfig) -> None:
    _, token = opened(config)
    client = Client(enforce_csrf_checks=True)
    client.get(reverse("connect-page", args=[token]))

    response = client.post(reverse("connect-start", args=[token]))

    assert response.status_code == 403
    assert not AuthorizationRequest.objects.exists()


def test_a1_the_button_with_its_csrf_token_leads_to_the_provider(config: ProviderConfig) -> None:
    _, token = opened(config)
    client = Client(enforce_csrf_checks=True)
    page = client.get(reverse("connect-page", args=[token])).content.decode()
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found

    response = client.post(reverse("connect-start", args=[token]), {"csrfmiddlewaretoken": found[1]})

    assert response.status_code == 303
    assert response["Location"].startswith(config.spec.authorize_url)


# --- A2: state -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a2_a_thousand_states_are_long_and_all_distinct(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    sessions = [opened(config, end_user=f"user-{number}")[0] for number in range(50)]

    urls = [start(session, browser="b", user=None, actor=SYSTEM) for session in sessions for _ in range(20)]

    states = [query_of(url)["state"] for url in urls]
    assert len(set(states)) == len(states) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22,}", state) for state in states)
    # Not UUIDs, whose version digit stands at a fixed place.
    assert all(len({state[place] for state in states}) > 1 for place in range(len(states[0])))


def test_a2_a_callback_that_is_replayed_exchanges_nothing(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    url = browser.consent(browser.start(token))
    browser.callback(url)
    before = len(exchanges(sandbox))

    again = browser.callback(url)

    assert before == 1
    assert len(exchanges(sandbox)) == 1
    assert Grant.objects.count() == 1
    # The person pressed Reload: they see what came of it the first time.
    assert (
        "is connected" in browser.follow(again).content.decode()
        or "Almost done" in browser.follow(again).content.decode()
    )


def test_a2_a_state_ends_after_ten_minutes(config: ProviderConfig, sandbox: SandboxThread) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    url = browser.consent(browser.start(token))
    lifetime = AuthorizationRequest.objects.get().expires_at - timezone.now()
    AuthorizationRequest.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))

    page = browser.follow(browser.callback(url))

    assert lifetime <= dt.timedelta(minutes=10)
    assert exchanges(sandbox) == []
    assert not Grant.objects.exists()
    assert page.status_code == 410


@pytest.mark.parametrize("state", ["", "x", "a" * 43, "\x00", "é"])
def test_a2_a_made_up_state_is_refused(config: ProviderConfig, sandbox: SandboxThread, state: str) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    browser.start(token)

    response = browser.client.get(path_of(config.redirect_uri), {"state": state, "code": "made-up"})

    assert response.status_code == 400
    assert exchanges(sandbox) == []


# --- A3: the browser that started ----------------------------------------------------------------------------------


def test_a3_a_flow_started_in_one_browser_is_not_finished_in_another(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config)
    attacker, victim = Browser(sandbox, account="sam"), Browser(sandbox)
    url = attacker.consent(attacker.start(token))

    response = victim.callback(url)

    assert response.status_code == 403
    assert "another browser" in response.content.decode()
    assert exchanges(sandbox) == []
    assert not Grant.objects.exists()


def test_a3_another_browser_with_a_cookie_of_its_own_is_refused_and_spends_nothing(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    other_config = configured(sandbox, application=ApplicationFactory(name="Other"))
    _, token = opened(config)
    _, other_token = opened(other_config)
    rightful, other = Browser(sandbox), Browser(sandbox)
    other.start(other_token)
    url = rightful.consent(rightful.start(token))

    refused = other.callback(url)
    accepted = rightful.callback(url)

    assert refused.status_code == 403
    assert accepted.status_code == 303
    assert len(exchanges(sandbox)) == 1


@pytest.mark.parametrize("cookie", ["", "x", "%00", "a" * 42, "a" * 5000])
def test_a3_a_cookie_that_we_did_not_make_opens_nothing(
    config: ProviderConfig, sandbox: SandboxThread, cookie: str
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    url = browser.consent(browser.start(token))
    browser.client.cookies["connect"] = cookie

    response = browser.callback(url)

    assert response.status_code == 403
    assert exchanges(sandbox) == []


def test_a3_pressing_the_button_of_a_link_in_use_does_not_take_its_result_over(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    """The sender of a link starts it again while the victim consents; the code must stay with the victim."""
    session, token = opened(config, confirmation=Confirmation.CODE)
    victim, attacker = Browser(sandbox), Browser(sandbox)
    url = victim.consent(victim.start(token))
    attacker.start(token)

    victim.callback(url)

    seen_by_attacker = attacker.client.get(reverse("connect-result", args=[session.pk]))
    code_for_attacker = attacker.client.post(reverse("connect-return", args=[session.pk]))
    assert seen_by_attacker.status_code == 404
    assert code_for_attacker.status_code == 404
    assert victim.client.get(reverse("connect-result", args=[session.pk])).status_code == 200


def test_a3_a_choice_of_sites_belongs_to_the_browser_that_came_back(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config, confirmation=Confirmation.CODE)
    victim, attacker = Browser(sandbox, account="jo"), Browser(sandbox)
    url = victim.consent(victim.start(token))
    attacker.start(token)
    victim.callback(url)

    seen = attacker.client.get(reverse("connect-sites", args=[session.pk]))
    sent = attacker.client.post(reverse("connect-sites", args=[session.pk]), {"sites": ["anything"]})
    late_start = attacker.client.post(reverse("connect-start", args=[token]))

    assert (seen.status_code, sent.status_code, late_start.status_code) == (404, 404, 410)
    assert "acme" not in seen.content.decode()
    assert not Grant.objects.exists()


def test_a3_every_page_of_a_finished_session_is_closed_to_other_browsers(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config, confirmation=Confirmation.CODE)
    Browser(sandbox).arrive(token)
    grant, stranger = only_grant(), Client()

    answers = [
        stranger.get(reverse("connect-sites", args=[session.pk])),
        stranger.get(reverse("connect-result", args=[session.pk])),
        stranger.post(reverse("connect-return", args=[session.pk])),
        stranger.post(reverse("connect-again", args=[session.pk])),
        stranger.get(reverse("my-connection", args=[grant.pk])),
        stranger.get(reverse("my-connection-disconnect", args=[grant.pk])),
        stranger.post(reverse("my-connection-disconnect", args=[grant.pk])),
    ]

    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert all("sam" not in answer.content.decode() for answer in answers)
    assert only_grant().status == GrantStatus.PENDING


# --- A4: the same person ----------------------------------------------------------------------------------------


def test_a4_a_test_connection_is_not_finished_after_another_member_has_signed_in(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    tester, other = UserFactory(), UserFactory()
    _, token = opened(config, confirmation=Confirmation.LOGIN, created_by=tester)
    browser = member_browser(sandbox, tester)
    url = browser.consent(browser.start(token))
    browser.client.cookies.pop("session", None)
    browser.client.force_login(other, backend="django.contrib.auth.backends.ModelBackend")

    response = browser.callback(url)

    assert response.status_code == 403
    assert exchanges(sandbox) == []
    assert not Grant.objects.exists()


def test_a4_a_test_connection_is_not_finished_after_signing_out(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    tester = UserFactory()
    _, token = opened(config, confirmation=Confirmation.LOGIN, created_by=tester)
    browser = member_browser(sandbox, tester)
    url = browser.consent(browser.start(token))
    browser.client.post(reverse("account_logout"))

    response = browser.callback(url)

    assert response.status_code == 403
    assert exchanges(sandbox) == []


def test_a4_a_test_connection_is_started_by_nobody_but_the_member_who_made_it(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    tester, other = UserFactory(), UserFactory()
    _, token = opened(config, confirmation=Confirmation.LOGIN, created_by=tester)

    anonymous = Client().get(reverse("connect-page", args=[token]))
    anonymous_start = Client().post(reverse("connect-start", args=[token]))
    others = member_browser(sandbox, other).client.post(reverse("connect-start", args=[token]))

    assert anonymous.status_code == anonymous_start.status_code == 302
    assert anonymous["Location"].startswith(reverse("account_login"))
    assert others.status_code == 403
    assert not AuthorizationRequest.objects.exists()


def test_a4_the_sites_of_a_test_connection_are_chosen_by_the_member_who_made_it(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    tester, other = UserFactory.create(), UserFactory.create()
    session, token = opened(config, confirmation=Confirmation.LOGIN, created_by=tester)
    browser = member_browser(sandbox, tester)
    browser.account = "jo"
    browser.go(token)
    browser.client.force_login(other, backend="django.contrib.auth.backends.ModelBackend")
    url = reverse("connect-sites", args=[session.pk])

    answers = [
        browser.client.get(url),
        browser.client.post(url, {"sites": [ACME.cloud_id]}),
        browser.client.get(reverse("connect-result", args=[session.pk])),
    ]

    assert [answer.status_code for answer in answers] == [404] * 3
    assert not Grant.objects.exists()


# --- A5: vouched for before it is active ----------------------------------------------------------------------


def test_a5_a_connection_waits_until_a_member_has_confirmed_the_account(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config, confirmation=Confirmation.MEMBER)

    Browser(sandbox).arrive(token)

    grant = only_grant()
    assert grant.status == GrantStatus.PENDING
    assert grant.refresh_due_at is None
    with pytest.raises(NotRefreshableError):
        ensure_fresh(grant, min_ttl=dt.timedelta(0))
    with pytest.raises(NotRefreshableError):
        refresh_now(grant, trigger=Trigger.READER)


def test_a5_the_code_of_a_victim_is_worth_nothing_to_the_sender_of_the_link(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    """The attacker's application account opens a link and sends it to a victim, who consents."""
    session, token = opened(config, end_user="attacker", confirmation=Confirmation.CODE)
    victim = Browser(sandbox)
    victim.arrive(token)
    back = victim.client.post(reverse("connect-return", args=[session.pk]))

    # The code arrives in the victim's browser, where the victim is signed in at the application.
    with pytest.raises(ReturnCodeError):
        exchange_return_code(
            config.application, code=query_of(back["Location"])["code"], end_user="victim", actor=SYSTEM
        )
    # The attacker has learnt it all the same, but it is spent.
    with pytest.raises(ReturnCodeError):
        exchange_return_code(
            config.application, code=query_of(back["Location"])["code"], end_user="attacker", actor=SYSTEM
        )

    assert only_grant().status == GrantStatus.PENDING


def test_a5_the_code_makes_the_connection_active_for_the_end_user_it_was_made_for(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config, end_user="user-1", confirmation=Confirmation.CODE)
    browser = Browser(sandbox)
    browser.arrive(token)
    back = browser.client.post(reverse("connect-return", args=[session.pk]))

    grant = exchange_return_code(
        config.application, code=query_of(back["Location"])["code"], end_user="user-1", actor=SYSTEM
    )

    assert grant.status == GrantStatus.ACTIVE
    assert grant.refresh_due_at is not None


def test_a5_a_code_of_one_application_is_worth_nothing_in_another(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config, end_user="user-1", confirmation=Confirmation.CODE)
    browser = Browser(sandbox)
    browser.arrive(token)
    code = query_of(browser.client.post(reverse("connect-return", args=[session.pk]))["Location"])["code"]

    with pytest.raises(ReturnCodeError):
        exchange_return_code(ApplicationFactory.create(), code=code, end_user="user-1", actor=SYSTEM)

    assert only_grant().status == GrantStatus.PENDING


# --- A6: what is stored is bound ------------------------------------------------------------------------------


def _move_to_another_provider(request: AuthorizationRequest) -> None:
    other = configured_elsewhere()
    session, _ = opened(other)
    request.session = session


def configured_elsewhere() -> ProviderConfig:
    from tests.factories import ProviderConfigFactory

    return ProviderConfigFactory.create(application=ApplicationFactory.create())


def _another_user(request: AuthorizationRequest) -> None:
    request.user = UserFactory.create()


def _another_verifier(request: AuthorizationRequest) -> None:
    seal(request, "code_verifier", "v" * 64)


def _damaged_verifier(request: AuthorizationRequest) -> None:
    *rest, last = bytes(request.code_verifier)
    request.code_verifier = bytes([*rest, last ^ 1])


def _no_verifier(request: AuthorizationRequest) -> None:
    request.code_verifier = None


def _narrower_session(request: AuthorizationRequest) -> None:
    ConnectSession.objects.filter(pk=request.session_id).update(scopes=["read:me", "offline_access"])


def _set(**values: Any) -> Callable[[AuthorizationRequest], None]:
    def change(request: AuthorizationRequest) -> None:
        for name, value in values.items():
            setattr(request, name, value)

    return change


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(_move_to_another_provider, id="tenant and provider config"),
        pytest.param(_another_user, id="user"),
        pytest.param(_set(redirect_uri="https://evil.example/callback"), id="redirect_uri"),
        pytest.param(_set(scopes=["read:me", "offline_access", "manage:jira-configuration"]), id="scopes"),
        pytest.param(_narrower_session, id="scopes of the session"),
        pytest.param(_set(token_url="https://evil.example/token"), id="token_url"),
        pytest.param(_set(issuer="https://evil.example"), id="issuer"),
        pytest.param(_set(issuer=""), id="no issuer"),
        pytest.param(_set(client_id="another-client"), id="client_id"),
        pytest.param(_set(browser_digest="0" * 64), id="browser"),
        pytest.param(_set(browser_digest=""), id="no browser"),
        pytest.param(_set(state_digest="0" * 64), id="state"),
        pytest.param(_set(spent_at=timezone.now()), id="spent"),
        pytest.param(_set(expires_at=timezone.now() - dt.timedelta(seconds=1)), id="expiry"),
        pytest.param(_damaged_verifier, id="verifier damaged"),
        pytest.param(_no_verifier, id="verifier erased"),
    ],
)
def test_a6_a_stored_request_that_was_tampered_with_is_refused(
    config: ProviderConfig, sandbox: SandboxThread, tamper: Callable[[AuthorizationRequest], None]
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    url = browser.consent(browser.start(token))
    request = AuthorizationRequest.objects.get()
    tamper(request)
    request.save()

    response = browser.callback(url)

    assert exchanges(sandbox) == []
    assert not Grant.objects.exists()
    assert response.status_code in (303, 400, 403)


def test_a6_a_verifier_of_another_request_is_refused_by_the_provider(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    sandbox.set(pkce="verify")
    _, token = opened(config)
    browser = Browser(sandbox)
    url = browser.consent(browser.start(token))
    request = AuthorizationRequest.objects.get()
    _another_verifier(request)
    request.save()

    browser.callback(url)

    assert [call["outcome"] == "ok" for call in exchanges(sandbox)] == [False]
    assert not Grant.objects.exists()


def test_a6_a_verifier_moved_from_another_row_does_not_open(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    browser.start(token)
    url = browser.consent(browser.start(token))
    first, second = AuthorizationRequest.objects.order_by("created_at")
    AuthorizationRequest.objects.filter(pk=second.pk).update(code_verifier=first.code_verifier)

    browser.callback(url)

    assert exchanges(sandbox) == []
    assert not Grant.objects.exists()


# --- A7: one redirect URI a provider configuration ------------------------------------------------------------


def test_a7_redirect_uris_are_distinct_and_a_state_counts_only_at_its_own(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    other = configured(sandbox, application=ApplicationFactory(name="Evil Tenant"))
    _, token = opened(config)
    browser = Browser(sandbox)
    answer = query_of(browser.consent(browser.start(token)))

    response = browser.client.get(path_of(other.redirect_uri), answer)

    assert config.redirect_uri != other.redirect_uri
    assert response.status_code == 400
    assert exchanges(sandbox) == []
    assert not Grant.objects.exists()


# --- A8: the configuration changes meanwhile -----------------------------------------------------------------


def _edit_client(config: ProviderConfig) -> None:
    config.client_id = "another-client-id"
    config.save()


def _edit_scopes(config: ProviderConfig) -> None:
    config.scopes = ["read:me", "offline_access"]
    config.save()


def _disable(config: ProviderConfig) -> None:
    config.is_enabled = False
    config.save()


def _archive(config: ProviderConfig) -> None:
    config.application.archived_at = timezone.now()
    config.application.save()


@pytest.mark.parametrize(
    ("edit", "status"), [(_edit_client, 409), (_edit_scopes, 409), (_disable, 403), (_archive, 403)]
)
def test_a8_editing_the_configuration_mid_flow_ends_the_flow(
    config: ProviderConfig,
    sandbox: SandboxThread,
    edit: Callable[[ProviderConfig], None],
    status: int,
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    url = browser.consent(browser.start(token))
    edit(config)

    page = browser.follow(browser.callback(url))

    assert page.status_code == status
    assert exchanges(sandbox) == []
    assert not Grant.objects.exists()


def test_a8_a_token_endpoint_that_changed_mid_flow_is_not_sent_the_code(
    config: ProviderConfig, sandbox: SandboxThread, settings: Any
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    url = browser.consent(browser.start(token))
    settings.SANDBOX_URL = "http://127.0.0.1:9"

    page = browser.follow(browser.callback(url))

    assert page.status_code == 409
    assert exchanges(sandbox) == []


def test_a8_deleting_the_provider_mid_flow_ends_the_flow(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    url = browser.consent(browser.start(token))
    config.delete()

    response = browser.callback(url)

    assert response.status_code == 400
    assert exchanges(sandbox) == []


# --- A9: iss ---------------------------------------------------------------------------------------------------


def test_a9_the_right_iss_is_accepted(config: ProviderConfig, sandbox: SandboxThread) -> None:
    sandbox.set(iss=config.spec.issuer)
    _, token = opened(config)

    Browser(sandbox).arrive(token)

    assert Grant.objects.count() == 1


@pytest.mark.parametrize(
    "iss",
    [
        "https://evil.example",
        "https://auth.atlassian.com/",
        "https://AUTH.atlassian.com",
        "http://auth.atlassian.com",
        " ",
    ],
)
def test_a9_another_iss_is_refused_however_alike(
    config: ProviderConfig, sandbox: SandboxThread, iss: str
) -> None:
    sandbox.set(iss=iss)
    _, token = opened(config)
    browser = Browser(sandbox)

    page = browser.arrive(token)

    assert page.status_code == 400
    assert "came from somewhere else" in page.content.decode()
    assert exchanges(sandbox) == []


def test_a9_an_error_with_another_iss_is_refused_as_such(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    sandbox.set(iss="https://evil.example")
    _, token = opened(config)
    browser = Browser(sandbox)
    answer = query_of(browser.consent(browser.start(token), decline=True)) | {"iss": "https://evil.example"}

    page = browser.follow(browser.client.get(path_of(config.redirect_uri), answer))

    assert "came from somewhere else" in page.content.decode()


def test_a9_a_missing_iss_is_refused_where_the_provider_says_that_it_sends_one(
    sandbox: SandboxThread, strict_provider: ProviderConfig
) -> None:
    _, token = opened(strict_provider)
    browser = Browser(sandbox)

    page = browser.arrive(token)

    assert "came from somewhere else" in page.content.decode()
    assert sandbox.ledger("/generic/token") == []


@pytest.fixture
def strict_provider(sandbox: SandboxThread, tmp_path: Any, settings: Any) -> ProviderConfig:
    """Return a made-up provider whose catalog file says that it always names itself."""
    from tests.tokens.made_up import made_up_provider

    return made_up_provider(sandbox, tmp_path, settings, issuer="https://plainhub.example", iss="required")


# --- A10: PKCE -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a10_a_hundred_requests_each_bring_a_fresh_s256_challenge_that_fits_its_verifier(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    tokens = [opened(config, end_user=f"user-{number}")[1] for number in range(10)]
    browser = Browser(sandbox)

    asked = [query_of(browser.start(token)) for token in tokens for _ in range(10)]

    verifiers = {unseal(request, "code_verifier") for request in AuthorizationRequest.objects.all()}
    challenges = {
        urlsafe_b64encode(hashlib.sha256(str(verifier).encode()).digest()).rstrip(b"=").decode()
        for verifier in verifiers
    }
    assert len(verifiers) == len(asked) == 100
    assert all(re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", str(verifier)) for verifier in verifiers)
    assert {query["code_challenge_method"] for query in asked} == {"S256"}
    assert {query["code_challenge"] for query in asked} == challenges


def test_a10_a_provider_that_enforces_pkce_is_satisfied(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    sandbox.set(pkce="verify")
    _, token = opened(config)

    Browser(sandbox).arrive(token)

    assert [call["outcome"] for call in exchanges(sandbox)] == ["ok"]
    assert Grant.objects.count() == 1


# --- A11: never the Host header -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"HTTP_X_FORWARDED_HOST": "evil.example"},
        {"HTTP_X_FORWARDED_HOST": "evil.example", "HTTP_X_FORWARDED_PROTO": "https"},
        {"HTTP_ORIGIN": "https://evil.example"},
        {"HTTP_FORWARDED": "host=evil.example;proto=https"},
        {"HTTP_HOST": "localhost"},
        {"HTTP_X_ORIGINAL_URL": "https://evil.example/"},
    ],
)
def test_a11_redirect_uri_and_links_come_from_configuration(
    config: ProviderConfig, headers: dict[str, str]
) -> None:
    _, token = opened(config)

    response = Client().post(reverse("connect-start", args=[token]), **headers)

    assert query_of(response["Location"])["redirect_uri"] == config.redirect_uri
    assert config.redirect_uri.startswith("http://testserver/")
    assert "evil" not in response["Location"]


def test_a11_a_host_that_is_not_ours_is_refused(config: ProviderConfig) -> None:
    _, token = opened(config)
    client = Client(raise_request_exception=False)

    response = client.post(reverse("connect-start", args=[token]), HTTP_HOST="evil.example")

    assert response.status_code == 400
    assert not AuthorizationRequest.objects.exists()
    with pytest.raises(DisallowedHost):
        response.wsgi_request.get_host()


# --- A12: where one is sent back to ----------------------------------------------------------------------------


NOT_OURS = [
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/%5Cevil.example",
    "/\t/evil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "@evil.example",
    ".evil.example",
    f"{RETURN_ORIGIN}@evil.example",
    f"{RETURN_ORIGIN}.evil.example",
    f"{RETURN_ORIGIN}:443@evil.example",
    f"{RETURN_ORIGIN}:8443/",
    f"{RETURN_ORIGIN}:0/",
    f"{RETURN_ORIGIN}\\@evil.example",
    f"{RETURN_ORIGIN}\\.evil.example",
    f"{RETURN_ORIGIN}%2eevil.example",
    f"{RETURN_ORIGIN};evil.example",
    f"{RETURN_ORIGIN}\t.evil.example",
    f"{RETURN_ORIGIN}/a\r\nX: y",
    f"{RETURN_ORIGIN}/\x00",
    f" {RETURN_ORIGIN}/",
    "http://app.acme.example/",
    "http://good@evil.example",
    "https://evil.example/?https://app.acme.example",
    "https://evil.example#https://app.acme.example",
    "https://app.acme.example%00.evil.example/",
    "https://[::1]/",
    "https://app.acme.examplé/",
    "javascript:alert(1)//app.acme.example",
    "data:text/html,x",
    "HTTPS://evil.example",
    "https://",
    "https://[",
]


@pytest.mark.parametrize("url", NOT_OURS)
def test_a12_a_return_url_of_another_origin_is_refused(config: ProviderConfig, url: str) -> None:
    assert not is_allowed_return_url(config.application, url)
    with pytest.raises(BadReturnUrlError):
        open_session(
            config, end_user="user-1", confirmation=Confirmation.MEMBER, actor=SYSTEM, return_url=url
        )


@pytest.mark.parametrize("url", NOT_OURS)
def test_a12_a_return_url_that_got_into_the_database_leads_nowhere(
    config: ProviderConfig, sandbox: SandboxThread, url: str
) -> None:
    session, token = opened(config, confirmation=Confirmation.CODE)
    browser = Browser(sandbox)
    browser.arrive(token)
    ConnectSession.objects.update(return_url=url.replace("\x00", ""))

    page = browser.client.get(reverse("connect-result", args=[session.pk]))
    back = browser.client.post(reverse("connect-return", args=[session.pk]))

    if "\x00" in url:
        return
    assert "evil" not in page.content.decode()
    assert "evil" not in page["Content-Security-Policy"]
    assert back["Location"] == reverse("connect-result", args=[session.pk])


def test_a12_an_allowed_return_url_keeps_its_own_query_and_fragment(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config, confirmation=Confirmation.CODE, return_url=f"{RETURN_URL}")
    browser = Browser(sandbox)
    browser.arrive(token)

    back = browser.client.post(reverse("connect-return", args=[session.pk]))

    code = query_of(back["Location"])["code"]
    assert back.status_code == 303
    assert back["Location"] == (
        f"{RETURN_ORIGIN}/settings?tab=apps&code={code}&connect_session={session.pk}#jira"
    )


def test_a12_an_origin_that_was_taken_off_the_list_counts_no_more(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    session, token = opened(config, confirmation=Confirmation.CODE)
    browser = Browser(sandbox)
    browser.arrive(token)
    config.application.return_origins = []
    config.application.save()

    back = browser.client.post(reverse("connect-return", args=[session.pk]))

    assert back["Location"] == reverse("connect-result", args=[session.pk])


# --- A13: the callback's page ----------------------------------------------------------------------------------


def test_a13_the_callback_leads_to_a_clean_address(config: ProviderConfig, sandbox: SandboxThread) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    url = browser.consent(browser.start(token))
    answer = query_of(url)

    response = browser.callback(url)

    assert response.status_code == 303
    assert "?" not in response["Location"]
    assert answer["code"] not in response["Location"] + response.content.decode()
    assert answer["state"] not in response["Location"] + response.content.decode()
    assert response["Referrer-Policy"] == "no-referrer"
    assert response["Cache-Control"] == "no-store"


def test_a13_a_refused_callback_repeats_nothing_and_loads_nothing_from_elsewhere(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config)
    starter, other = Browser(sandbox), Browser(sandbox)
    url = starter.consent(starter.start(token))

    response = other.callback(url)

    page = response.content.decode()
    assert query_of(url)["code"] not in page
    assert query_of(url)["state"] not in page
    assert not re.findall(r'(?:src|href|action)="(?![/#])[^"]*', page)
    assert response["Referrer-Policy"] == "no-referrer"
    assert response["Cache-Control"] == "no-store"


def test_a13_looking_at_the_callback_spends_nothing(config: ProviderConfig, sandbox: SandboxThread) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    url = path_of(browser.consent(browser.start(token)))

    head = browser.client.head(url)
    prefetch = browser.client.get(url, headers={"Sec-Purpose": "prefetch;prerender"})

    assert head.status_code == 405
    assert prefetch.status_code == 503
    assert exchanges(sandbox) == []
    assert browser.client.get(url).status_code == 303
    assert Grant.objects.count() == 1


# --- A14: errors ------------------------------------------------------------------------------------------------


def test_a14_a_cancel_spends_the_state_stores_nothing_and_says_what_to_do(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    url = browser.consent(browser.start(token), decline=True)

    page = browser.follow(browser.callback(url))

    assert "You did not connect Atlassian" in page.content.decode()
    assert AuthorizationRequest.objects.get().spent_at is not None
    assert not Grant.objects.exists()
    assert exchanges(sandbox) == []


@pytest.mark.parametrize("error", ["access_denied", "<script>alert(1)</script>", "x" * 5000, "🤷"])
def test_a14_what_an_error_says_is_never_repeated(
    config: ProviderConfig, sandbox: SandboxThread, error: str
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    state = query_of(browser.start(token))["state"]
    answer = {
        "state": state,
        "error": error,
        "error_description": "<script>alert(2)</script>",
        "error_uri": "https://evil.example/",
    }

    page = browser.follow(browser.client.get(path_of(config.redirect_uri), answer))

    text = page.content.decode()
    assert "alert(" not in text
    assert "evil.example" not in text
    assert not Grant.objects.exists()
    assert "alert(" not in str(list(AuditEvent.objects.values_list("detail", flat=True)))


def test_a14_names_on_a_failures_page_are_escaped(sandbox: SandboxThread) -> None:
    application = ApplicationFactory.create(name="<b>Acme {0} %s</b>")
    config = configured(sandbox, application=application)
    _, token = opened(config)
    browser = Browser(sandbox)

    page = browser.arrive(token, decline=True)

    assert "<b>Acme" not in page.content.decode()
    assert "&lt;b&gt;Acme {0} %s&lt;/b&gt;" in page.content.decode()


# --- A15: parameters twice --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["code", "state", "iss", "error", "anything"])
def test_a15_a_parameter_that_stands_twice_is_refused(
    config: ProviderConfig, sandbox: SandboxThread, name: str
) -> None:
    _, token = opened(config)
    browser = Browser(sandbox)
    url = browser.consent(browser.start(token))
    value = query_of(url).get(name, "x")

    response = browser.client.get(f"{path_of(url)}&{name}={value}&{name}=y")

    assert response.status_code == 400
    assert exchanges(sandbox) == []
    assert AuthorizationRequest.objects.get().spent_at is None


# --- A16: scopes -------------------------------------------------------------------------------------------------


def test_a16_only_configured_scopes_are_asked_for(config: ProviderConfig, sandbox: SandboxThread) -> None:
    _, token = opened(config, scopes=["read:jira-work"])

    asked = query_of(Browser(sandbox).start(token))["scope"].split()

    assert set(asked) == {"read:me", "offline_access", "read:jira-work"}


def test_a16_a_scope_that_was_taken_away_since_is_not_asked_for(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    _, token = opened(config)
    config.scopes = ["read:me", "offline_access", "read:jira-user"]
    config.save()
    browser = Browser(sandbox)

    page = browser.open(token).content.decode()
    asked = query_of(browser.start(token))["scope"].split()

    assert "read your Jira projects" not in page
    assert asked == ["read:me", "offline_access", "read:jira-user"]


def test_a16_a_shortfall_is_stored_shown_and_told(config: ProviderConfig, sandbox: SandboxThread) -> None:
    sandbox.set(granted_scopes=["read:me", "offline_access", "read:jira-user"])
    _, token = opened(config)

    page = Browser(sandbox).arrive(token).content.decode()

    grant = only_grant()
    assert grant.missing_scopes == ["read:jira-work"]
    assert "did not allow everything" in page
    assert "read your Jira projects and issues" in page
    event = AuditEvent.objects.get(event=Event.GRANT_CONNECTED)
    assert event.detail["missing_scopes"] == ["read:jira-work"]


# --- A17: another account --------------------------------------------------------------------------------------


def test_a17_reconnecting_with_another_account_replaces_nothing_and_is_said(
    config: ProviderConfig, sandbox: SandboxThread
) -> None:
    earlier = GrantFactory.create(provider_config=config, end_user="user-1", account_name="Jo Doe")
    before = bytes(earlier.tokens.access_token)
    _, token = opened(config, reconnect_grant=earlier)

    page = Browser(sandbox, account="sam").arrive(token).content.decode()

    other = Grant.objects.exclude(pk=earlier.pk).get()
    earlier.refresh_from_db()
    earlier.tokens.refresh_from_db()
    assert "another account than before" in page
    assert other.status == GrantStatus.PENDING
    assert earlier.status == GrantStatus.ACTIVE
    assert bytes(earlier.tokens.access_token) == before


# --- A18: two at once --------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a18_two_links_at_once_give_one_grant(sandbox: SandboxThread) -> None:
    config = configured(sandbox)
    walks = [(Browser(sandbox), opened(config)[1]) for _ in range(4)]
    urls = [browser.consent(browser.start(token)) for browser, token in walks]
    sandbox.fault("latency", on="/me", times=-1, ms=300)

    answers = _at_once([_coming_back(browser, url) for (browser, _), url in zip(walks, urls, strict=True)])

    grant = only_grant()
    assert [answer.status_code for answer in answers] == [303] * 4
    assert ConnectSession.objects.filter(status=SessionStatus.DONE, grant=grant).count() == 4
    assert AuthorizationRequest.objects.filter(spent_at=None).count() == 0
    assert grant.gen == 4
    _newest_tokens_work(grant)


@pytest.mark.django_db(transaction=True)
def test_a18_two_tabs_of_one_link_give_one_grant(sandbox: SandboxThread) -> None:
    config = configured(sandbox)
    session, token = opened(config)
    browser = Browser(sandbox)
    urls = [browser.consent(browser.start(token)) for _ in range(3)]
    sandbox.fault("latency", on="/me", times=-1, ms=300)

    answers = _at_once([_coming_back(_same(browser), url) for url in urls])

    session.refresh_from_db()
    assert {answer["Location"] for answer in answers} == {reverse("connect-result", args=[session.pk])}
    assert Grant.objects.count() == 1
    assert only_grant().gen == 1
    assert session.status == SessionStatus.DONE
    _newest_tokens_work(only_grant())


@pytest.mark.django_db(transaction=True)
def test_a18_one_callback_sent_five_times_at_once_is_exchanged_once(sandbox: SandboxThread) -> None:
    config = configured(sandbox)
    _, token = opened(config)
    browser = Browser(sandbox)
    url = browser.consent(browser.start(token))
    sandbox.fault("latency", on="/oauth/token", times=-1, ms=300)

    answers = _at_once([_coming_back(_same(browser), url) for _ in range(5)])

    assert [answer.status_code for answer in answers] == [303] * 5
    assert len(exchanges(sandbox)) == 1
    assert Grant.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a18_sites_that_are_chosen_in_four_tabs_at_once_are_stored_once(sandbox: SandboxThread) -> None:
    config = configured(sandbox)
    session, token = opened(config)
    browser = Browser(sandbox, account="jo")
    browser.go(token)
    url = reverse("connect-sites", args=[session.pk])
    tabs = [_same(browser) for _ in range(4)]

    answers = _at_once(
        [_choosing(tab, url, site) for tab, site in zip(tabs, [ACME, ACME_LABS] * 2, strict=True)]
    )

    assert sorted(answer.status_code for answer in answers) == [303, 409, 409, 409]
    assert only_grant().gen == 1
    assert only_grant().sites.filter(is_chosen=True).count() == 1


def _choosing(browser: Browser, url: str, site: Site) -> Callable[[], Any]:
    return lambda: browser.client.post(url, {"sites": [site.cloud_id]})


def _newest_tokens_work(grant: Grant) -> None:
    from tokens.confirm import confirm

    confirm(grant, actor=SYSTEM)
    refresh_now(grant, trigger=Trigger.MEMBER)
    grant.refresh_from_db()
    assert grant.status == GrantStatus.ACTIVE


def _same(browser: Browser) -> Browser:
    """Return another tab of a browser: the same cookies, but a client of its own for its thread."""
    tab = Browser(browser.sandbox, account=browser.account)
    tab.client.cookies.update(browser.client.cookies)
    return tab


def _coming_back(browser: Browser, url: str) -> Callable[[], Any]:
    return lambda: browser.callback(url)


def _at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    answers: list[Any] = [None] * len(calls)

    def run(place: int) -> None:
        try:
            answers[place] = calls[place]()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[place]) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
