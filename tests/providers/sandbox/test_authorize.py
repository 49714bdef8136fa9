"""Consent: what the page shows, what goes back to the client, and what never does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from providers.sandbox.thread import ConsentRefusedError
from tests.providers.sandbox.client import (
    CLIENT_ID,
    REDIRECT_URI,
    authorize_url,
    call,
    connect,
    get_code,
    query_of,
)

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread


def test_accept_leads_back_with_a_code_and_the_state(sandbox: SandboxThread) -> None:
    location = sandbox.approve(authorize_url(sandbox))

    assert location.startswith("http://portal.example/callback?kept=1&")
    assert set(query_of(location)) == {"kept", "code", "state"}
    assert query_of(location)["state"] == "the-state"
    assert 1000 <= len(query_of(location)["code"]) <= 3000


def test_cancel_leads_back_with_access_denied_and_the_state(sandbox: SandboxThread) -> None:
    location = sandbox.approve(authorize_url(sandbox), decline=True)

    answer = query_of(location)
    assert answer["error"] == "access_denied"
    assert answer["error_description"] == "User did not authorize the request"
    assert answer["state"] == "the-state"
    assert "code" not in answer


def test_the_page_says_that_it_is_not_atlassian_and_names_app_and_scopes(sandbox: SandboxThread) -> None:
    answer = call(authorize_url(sandbox))

    page = answer.body.decode()
    assert answer.status == 200
    assert "this is not Atlassian" in page
    assert CLIENT_ID in page
    assert "View Jira work" in page
    assert "Jo Doe" in page
    assert "Kim Poe" in page
    assert ">Accept</button>" in page
    assert ">Cancel</button>" in page
    assert 'name="site"' not in page


def test_the_page_needs_no_script_and_no_inline_style(sandbox: SandboxThread) -> None:
    answer = call(authorize_url(sandbox))

    page = answer.body.decode()
    assert "<script" not in page
    assert "style=" not in page
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert call(f"{sandbox.url}/sandbox-assets/sandbox.css").status == 200


def test_what_the_client_sends_is_escaped_on_the_page(sandbox: SandboxThread) -> None:
    page = call(authorize_url(sandbox, client_id="<b>$x</b>")).body.decode()

    assert "&lt;b&gt;$x&lt;/b&gt;" in page
    assert "<b>$x" not in page


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": None}, "invalid_request"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"redirect_uri": "javascript:alert(1)"}, "invalid_request"),
        ({"audience": None}, "invalid_request"),
        ({"audience": "api.example"}, "invalid_request"),
        ({"response_type": "token"}, "invalid_request"),
        ({"scope": None}, "invalid_request"),
        ({"scope": "read:me openid"}, "server_error"),
        ({"scope": "read:me read:nonsense"}, "invalid_scope"),
        ({"resource": "https://api.example"}, "invalid_target"),
    ],
)
def test_a_wrong_request_ends_on_the_error_page(
    sandbox: SandboxThread, changes: dict[str, str | None], error: str
) -> None:
    answer = call(authorize_url(sandbox, **changes))

    assert answer.status == 302
    assert answer.headers["Location"].startswith("/error?")
    assert query_of(answer.headers["Location"])["error"] == error
    assert sandbox.ledger("/authorize")[-1]["outcome"] == error


def test_the_error_page_shows_the_error(sandbox: SandboxThread) -> None:
    answer = call(f"{sandbox.url}/error?error=invalid_scope&error_description=%3Cb%3Eno%3C/b%3E")

    assert b"invalid_scope" in answer.body
    assert b"&lt;b&gt;no&lt;/b&gt;" in answer.body


def test_a_parameter_given_twice_is_refused(sandbox: SandboxThread) -> None:
    answer = call(authorize_url(sandbox) + "&state=another")

    assert query_of(answer.headers["Location"])["error"] == "invalid_request"


def test_a_registered_redirect_uri_must_match_to_the_letter(sandbox: SandboxThread) -> None:
    sandbox.register_client("app", "secret", redirect_uris=[REDIRECT_URI])

    with pytest.raises(ConsentRefusedError) as refused:
        sandbox.approve(authorize_url(sandbox, client_id="app", redirect_uri=REDIRECT_URI + "2"))

    assert refused.value.error == "unauthorized_client"
    assert refused.value.description.startswith("redirect_uri is not registered for client: http://portal")
    assert "code=" in sandbox.approve(authorize_url(sandbox, client_id="app"))


def test_with_registered_clients_only_a_strange_client_is_refused(sandbox: SandboxThread) -> None:
    get_code(sandbox, client_id="strange")
    sandbox.set(clients="registered")

    with pytest.raises(ConsentRefusedError):
        sandbox.approve(authorize_url(sandbox, client_id="strange"))

    assert get_code(sandbox)


def test_a_scope_that_the_app_has_not_enabled_is_refused_but_offline_access_is_not(
    sandbox: SandboxThread,
) -> None:
    sandbox.register_client("app", "secret", scopes=["read:me"])

    with pytest.raises(ConsentRefusedError) as refused:
        sandbox.approve(authorize_url(sandbox, client_id="app", scope="read:me read:jira-work"))

    assert refused.value.error == "invalid_scope"
    assert get_code(sandbox, client_id="app", scope="offline_access read:me")


def test_unknown_scopes_can_be_dropped_or_accepted(sandbox: SandboxThread) -> None:
    sandbox.set(unknown_scope="drop")
    dropped = connect(sandbox, scope="read:me read:nonsense")
    sandbox.set(unknown_scope="accept")
    accepted = connect(sandbox, scope="read:me read:nonsense")

    assert dropped["scope"] == "read:me"
    assert accepted["scope"] == "read:me read:nonsense"


@pytest.mark.parametrize(
    ("consent_error", "words"),
    [
        ("site_admin", "Your site admin must authorize this app for the site acme"),
        ("no_site", "This app requires access to a Jira & Confluence site"),
        ("not_shared", "failed to retrieve client"),
    ],
)
def test_the_consent_can_be_refused_by_the_provider(
    sandbox: SandboxThread, consent_error: str, words: str
) -> None:
    sandbox.set(consent_error=consent_error)

    with pytest.raises(ConsentRefusedError) as refused:
        sandbox.approve(authorize_url(sandbox))

    assert words in refused.value.description


def test_an_app_that_is_not_shared_cannot_be_consented_to(sandbox: SandboxThread) -> None:
    sandbox.register_client("app", "secret", shared=False)

    with pytest.raises(ConsentRefusedError):
        sandbox.approve(authorize_url(sandbox, client_id="app"))


def test_a_resource_level_app_gets_the_one_chosen_site_and_more_with_the_next_consent(
    sandbox: SandboxThread,
) -> None:
    sandbox.set(grant_type="resource")

    page = call(authorize_url(sandbox)).body.decode()
    sandbox.approve(authorize_url(sandbox), sites=["acme-labs"])
    first = sandbox.state()["grants"][0]["sites"]
    sandbox.approve(authorize_url(sandbox), sites=["acme"])
    second = sandbox.state()["grants"][0]["sites"]

    assert 'name="site"' in page
    assert "Choose a site" in page
    assert len(first) == 1
    assert len(second) == 2


def test_a_site_of_someone_else_cannot_be_chosen(sandbox: SandboxThread) -> None:
    sandbox.set(grant_type="resource")

    with pytest.raises(ConsentRefusedError, match="Sam Roe has no access to that site"):
        sandbox.approve(authorize_url(sandbox), account="sam", sites=["globex"])


def test_a_consent_page_can_be_answered_once(sandbox: SandboxThread) -> None:
    page = call(authorize_url(sandbox)).body.decode()
    context = page.split('name="context" value="')[1].split('"')[0]
    form = {"context": context, "account": "jo", "decision": "accept"}

    first = call(f"{sandbox.url}/authorize/consent", form=form)
    second = call(f"{sandbox.url}/authorize/consent", form=form)

    assert "code=" in first.headers["Location"]
    assert second.headers["Location"].startswith("/error?")


def test_the_callback_carries_iss_when_switched_on(sandbox: SandboxThread) -> None:
    sandbox.set(iss="https://issuer.example")

    assert query_of(sandbox.approve(authorize_url(sandbox)))["iss"] == "https://issuer.example"


def test_fewer_scopes_can_be_granted_than_asked_for(sandbox: SandboxThread) -> None:
    sandbox.set(granted_scopes=["offline_access", "read:me"])

    assert connect(sandbox)["scope"] == "offline_access read:me"


def test_the_apps_page_lists_what_was_given_and_removes_it(sandbox: SandboxThread) -> None:
    tokens = connect(sandbox, account="sam")
    url = f"{sandbox.url}/manage-profile/apps"
    page = call(f"{url}?account=sam").body.decode()
    grant = page.split('name="grant" value="')[1].split('"')[0]

    removed = call(url, form={"grant": grant})

    assert "Acme Tasks" in page
    assert ">Remove</button>" in page
    assert removed.status == 303
    assert b"No app has access" in call(f"{url}?account=sam&removed=1").body
    assert call(f"{sandbox.url}/me", bearer=tokens["access_token"]).status == 401


def test_the_metadata_names_the_endpoints(sandbox: SandboxThread) -> None:
    metadata = call(f"{sandbox.url}/.well-known/openid-configuration").json

    assert metadata["token_endpoint"] == f"{sandbox.url}/oauth/token"
    assert metadata["code_challenge_methods_supported"] == ["S256"]
