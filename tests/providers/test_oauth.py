"""Requests as values: nothing here touches a network."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import pytest

from providers import oauth
from providers.messages import MAX_RESOURCE_BODY, MAX_TOKEN_BODY
from providers.oauth import Credentials
from providers.spec import Endpoint, Pkce

if TYPE_CHECKING:
    from providers.spec import ProviderSpec

CREDENTIALS = Credentials("my-id", "CANARY-7f3a-secret")


def test_the_challenge_is_the_one_of_rfc_7636_appendix_b():
    challenge = oauth.code_challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")

    assert challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a10_a_verifier_has_43_to_128_unreserved_characters_and_is_never_the_same():
    verifiers = {oauth.new_code_verifier() for _ in range(1000)}

    assert len(verifiers) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier) for verifier in verifiers)


def test_a_state_has_at_least_128_random_bits_and_is_never_the_same():
    states = {oauth.new_state() for _ in range(1000)}

    assert len(states) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22,}", state) for state in states)


def _authorize(
    spec: ProviderSpec, scopes: list[str], verifier: str = "v" * 43
) -> tuple[str, list[tuple[str, str]]]:
    url = oauth.authorization_url(
        spec,
        client_id="my-id",
        redirect_uri="https://portal.example/oauth/callback/a b/x",
        scopes=scopes,
        state="st&te",
        verifier=verifier,
    )
    parts = urlsplit(url)
    return url, parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True)


def test_atlassian_is_asked_with_audience_consent_and_s256(atlassian: ProviderSpec):
    url, params = _authorize(atlassian, ["read:me", "offline_access"])

    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"v" * 43).digest()).rstrip(b"=").decode()
    assert url.startswith("https://auth.atlassian.com/authorize?")
    # A space is %20: some servers take "+" literally.
    assert "scope=read%3Ame%20offline_access" in url
    assert sorted(params) == sorted(
        {
            "audience": "api.atlassian.com",
            "prompt": "consent",
            "client_id": "my-id",
            "redirect_uri": "https://portal.example/oauth/callback/a b/x",
            "response_type": "code",
            "state": "st&te",
            "scope": "read:me offline_access",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }.items()
    )


def test_scopes_are_joined_as_the_provider_wants_them(plain: ProviderSpec):
    _, params = _authorize(plain, ["files.read", "files.write"])

    assert ("scope", "files.read,files.write") in params


def test_scopes_can_have_a_parameter_of_their_own(plain: ProviderSpec):
    _, params = _authorize(dataclasses.replace(plain, scope_param="user_scope"), ["files.read"])

    assert ("user_scope", "files.read") in params
    assert "scope" not in dict(params)


def test_a_provider_without_scopes_and_pkce_gets_neither(plain: ProviderSpec):
    spec = dataclasses.replace(plain, scope_separator="", pkce=Pkce.NEVER)

    _, params = _authorize(spec, ["files.read"])

    assert set(dict(params)) == {"client_id", "redirect_uri", "response_type", "state"}


def test_an_authorize_address_may_have_a_query_already(plain: ProviderSpec):
    spec = dataclasses.replace(plain, authorize_url="https://plain.example/a?lang=en")

    url, params = _authorize(spec, [])

    assert url.count("?") == 1
    assert ("lang", "en") in params


def test_what_is_set_for_each_request_wins_over_fixed_parameters(plain: ProviderSpec):
    spec = dataclasses.replace(plain, authorize_params={"state": "fixed", "response_type": "token"})

    _, params = _authorize(spec, [])

    assert dict(params)["state"] == "st&te"
    assert dict(params)["response_type"] == "code"


def test_atlassian_gets_its_code_back_as_json(atlassian: ProviderSpec):
    request = oauth.exchange_request(
        atlassian,
        CREDENTIALS,
        token_url="https://auth.atlassian.com/oauth/token",
        code="the-code",
        redirect_uri="https://portal.example/cb",
        verifier="v" * 43,
    )

    assert (request.method, request.url) == ("POST", "https://auth.atlassian.com/oauth/token")
    assert request.headers == {"Accept": "application/json", "Content-Type": "application/json"}
    assert json.loads(request.body) == {
        "grant_type": "authorization_code",
        "client_id": "my-id",
        "client_secret": "CANARY-7f3a-secret",
        "code": "the-code",
        "redirect_uri": "https://portal.example/cb",
        "code_verifier": "v" * 43,
    }
    assert (request.timeout, request.max_body) == (timedelta(seconds=20), MAX_TOKEN_BODY)


def test_atlassian_gets_its_refresh_token_back_as_json(atlassian: ProviderSpec):
    request = oauth.refresh_request(atlassian, CREDENTIALS, refresh_token="r1")

    assert json.loads(request.body) == {
        "grant_type": "refresh_token",
        "client_id": "my-id",
        "client_secret": "CANARY-7f3a-secret",
        "refresh_token": "r1",
    }


def test_the_made_up_provider_gets_a_form_and_basic(plain: ProviderSpec):
    request = oauth.refresh_request(plain, CREDENTIALS, refresh_token="r 1&x")

    assert request.url == "https://plain.example/generic/token"
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert (
        request.headers["Authorization"] == "Basic " + base64.b64encode(b"my-id:CANARY-7f3a-secret").decode()
    )
    assert request.body == b"grant_type=refresh_token&refresh_token=r+1%26x"
    assert request.timeout == timedelta(seconds=5)


def test_refreshes_go_to_their_own_address_where_there_is_one(plain: ProviderSpec):
    spec = dataclasses.replace(
        plain, refresh_url="https://plain.example/refresh", token_params={"expiring": "1"}
    )

    refresh = oauth.refresh_request(spec, CREDENTIALS, refresh_token="r")
    exchange = oauth.exchange_request(
        spec, CREDENTIALS, token_url=spec.token_url, code="c", redirect_uri="https://a/b", verifier="v"
    )

    assert refresh.url == "https://plain.example/refresh"
    assert exchange.url == spec.token_url
    assert b"expiring=1" in refresh.body
    assert b"expiring=1" in exchange.body


def test_revoking_sends_the_token_and_its_kind_with_the_clients_credentials(plain: ProviderSpec):
    spec = dataclasses.replace(
        plain,
        revoke=Endpoint("https://plain.example/revoke", "POST", {"X-Version": "2"}),
        token_params={"expiring": "1"},
    )

    request = oauth.revoke_request(spec, CREDENTIALS, token="r1")

    assert request is not None
    assert (request.method, request.url) == ("POST", "https://plain.example/revoke")
    assert request.body == b"token=r1&token_type_hint=refresh_token"
    assert request.headers["Authorization"].startswith("Basic ")
    assert request.headers["X-Version"] == "2"


def test_there_is_nothing_to_revoke_at_atlassian(atlassian: ProviderSpec):
    assert oauth.revoke_request(atlassian, CREDENTIALS, token="r1") is None


def test_a_bearer_call_has_the_token_in_its_header_alone():
    endpoint = Endpoint("https://plain.example/me", "POST", {"X-Version": "2", "Authorization": "none"})

    request = oauth.bearer_request(endpoint, "CANARY-7f3a-access")

    assert (request.method, request.url, request.body) == ("POST", endpoint.url, b"")
    assert request.headers["Authorization"] == "Bearer CANARY-7f3a-access"
    assert request.headers["X-Version"] == "2"
    assert request.max_body == MAX_RESOURCE_BODY


@pytest.mark.parametrize("spec_name", ["atlassian", "plain"])
def test_no_request_shows_a_secret_when_it_is_printed(spec_name: str, request: pytest.FixtureRequest):
    spec: ProviderSpec = request.getfixturevalue(spec_name)

    built = oauth.refresh_request(spec, CREDENTIALS, refresh_token="CANARY-7f3a-refresh")

    assert "CANARY" not in f"{built!r} {built} {CREDENTIALS!r} {built.url}"
