"""A provider described by a file of one's own is spoken to over real HTTP, from consent to revocation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from providers import http, oauth
from providers.catalog_loader import catalog
from providers.oauth import Answer, Credentials, Failure, TokenSet, read_token_answer
from providers.spec import Outcome

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread
    from providers.spec import ProviderSpec

CREDENTIALS = Credentials("plain:client", "CANARY-7f3a secret/+")
REDIRECT_URI = "https://portal.example/oauth/callback/acme/plain"


@pytest.fixture
def spec(plain: ProviderSpec, sandbox: SandboxThread) -> ProviderSpec:
    """Move the made-up provider onto the sandbox, with one client that needs its ID and secret encoded."""
    sandbox.set(clients="registered")
    sandbox.register_client(
        CREDENTIALS.client_id, CREDENTIALS.client_secret, redirect_uris=[REDIRECT_URI], scopes=[]
    )
    return catalog()["plain"]


def _connect(spec: ProviderSpec, sandbox: SandboxThread) -> TokenSet:
    verifier = oauth.new_code_verifier()
    url = oauth.authorization_url(
        spec,
        client_id=CREDENTIALS.client_id,
        redirect_uri=REDIRECT_URI,
        scopes=["files.read", "files.write"],
        state="s",
        verifier=verifier,
    )
    (code,) = parse_qs(urlsplit(sandbox.approve(url)).query)["code"]
    request = oauth.exchange_request(
        spec,
        CREDENTIALS,
        token_url=spec.token_url,
        code=code,
        redirect_uri=REDIRECT_URI,
        verifier=verifier,
    )
    tokens = read_token_answer(spec, http.send_blocking(request), grant_type="authorization_code")
    assert isinstance(tokens, TokenSet)
    return tokens


def test_it_connects_with_basic_and_scopes_separated_by_commas(spec: ProviderSpec, sandbox: SandboxThread):
    tokens = _connect(spec, sandbox)

    assert tokens.scopes == ("files.read", "files.write")
    assert tokens.refresh_token


def test_its_refresh_token_stays(spec: ProviderSpec, sandbox: SandboxThread):
    tokens = _connect(spec, sandbox)
    request = oauth.refresh_request(spec, CREDENTIALS, refresh_token=tokens.refresh_token or "")

    refreshed = [
        read_token_answer(spec, http.send_blocking(request), grant_type="refresh_token") for _ in range(2)
    ]

    assert all(isinstance(answer, TokenSet) for answer in refreshed)
    assert {answer.refresh_token for answer in refreshed if isinstance(answer, TokenSet)} <= {
        None,
        tokens.refresh_token,
    }


def test_it_tells_who_connected(spec: ProviderSpec, sandbox: SandboxThread):
    tokens = _connect(spec, sandbox)
    assert spec.userinfo is not None
    assert spec.profile is not None

    answer = http.send_blocking(oauth.bearer_request(spec.userinfo, tokens.access_token))

    assert isinstance(answer, Answer)
    profile = json.loads(answer.body)
    assert profile[spec.profile.id]
    assert "@" in profile[spec.profile.email]


def test_after_revoking_nothing_can_be_refreshed(spec: ProviderSpec, sandbox: SandboxThread):
    tokens = _connect(spec, sandbox)
    revocation = oauth.revoke_request(spec, CREDENTIALS, token=tokens.refresh_token or "")
    assert revocation is not None

    revoked = http.send_blocking(revocation)
    refresh = oauth.refresh_request(spec, CREDENTIALS, refresh_token=tokens.refresh_token or "")
    failure = read_token_answer(spec, http.send_blocking(refresh), grant_type="refresh_token")

    assert isinstance(revoked, Answer)
    assert revoked.status == 200
    assert isinstance(failure, Failure)
    assert failure.outcome is Outcome.GRANT_DEAD


def test_a_wrong_secret_blames_the_client(spec: ProviderSpec, sandbox: SandboxThread):
    tokens = _connect(spec, sandbox)
    request = oauth.refresh_request(
        spec, Credentials(CREDENTIALS.client_id, "wrong"), refresh_token=tokens.refresh_token or ""
    )

    failure = read_token_answer(spec, http.send_blocking(request), grant_type="refresh_token")

    assert isinstance(failure, Failure)
    assert failure.outcome is Outcome.CLIENT_BAD
