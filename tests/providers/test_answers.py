"""What a good token answer may look like; the bad ones are in tests/security/test_token_endpoint.py."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from providers.oauth import Answer, Failure, TokenSet, read_token_answer
from providers.spec import Outcome

if TYPE_CHECKING:
    from providers.spec import ProviderSpec


def _read(spec: ProviderSpec, body: Any, status: int = 200) -> TokenSet | Failure:
    return read_token_answer(spec, Answer(status, {}, json.dumps(body).encode()), grant_type="refresh_token")


def _tokens(spec: ProviderSpec, body: Any, status: int = 200) -> TokenSet:
    tokens = _read(spec, body, status)
    assert isinstance(tokens, TokenSet)
    return tokens


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER", None])
def test_the_type_of_a_token_is_bearer_in_any_case_or_left_out(
    atlassian: ProviderSpec, token_type: str | None
):
    body = {"access_token": "a"} | ({"token_type": token_type} if token_type else {})

    assert _tokens(atlassian, body).access_token == "a"


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        ("b a", ("b", "a")),
        ("  a   b\ta ", ("a", "b")),
        ("a\u0000b c", ("c",)),
        ("ä b", ("b",)),
        ("x" * 201 + " b", ("b",)),
        (["a", 7, "b c", "d"], ("a", "d")),
        ([], ()),
        ("", None),
        ("  ", None),
        (None, None),
        (7, None),
    ],
)
def test_granted_scopes_are_those_that_are_well_formed(
    atlassian: ProviderSpec, scope: object, scopes: tuple[str, ...] | None
):
    assert _tokens(atlassian, {"access_token": "a", "scope": scope}).scopes == scopes


def test_scopes_come_back_with_the_providers_separator(plain: ProviderSpec):
    assert _tokens(plain, {"access_token": "a", "scope": "files.read,files.write"}).scopes == (
        "files.read",
        "files.write",
    )


def test_tokens_may_lie_in_an_object_of_the_answer(plain: ProviderSpec):
    spec = dataclasses.replace(plain, answer_in="authed_user", token_type="user")
    body = {
        "ok": True,
        "access_token": "bot",
        "token_type": "bot",
        "authed_user": {"access_token": "users", "token_type": "user", "scope": "files.read"},
    }

    tokens = _tokens(spec, body)

    assert (tokens.access_token, tokens.scopes) == ("users", ("files.read",))


@pytest.mark.parametrize("inside", [None, "text", [], {}])
def test_an_answer_without_the_expected_object_is_unreadable(plain: ProviderSpec, inside: object):
    spec = dataclasses.replace(plain, answer_in="authed_user")

    failure = _read(spec, {"access_token": "bot", "authed_user": inside})

    assert isinstance(failure, Failure)
    assert failure.outcome is Outcome.AMBIGUOUS


@pytest.mark.parametrize("status", [200, 201])
def test_any_success_with_a_token_is_one(atlassian: ProviderSpec, status: int):
    assert _tokens(atlassian, {"access_token": "a"}, status).access_token == "a"


@pytest.mark.parametrize("size", [1, 255, 3000, 60_000])
def test_tokens_are_opaque_and_of_any_length(atlassian: ProviderSpec, size: int):
    assert len(_tokens(atlassian, {"access_token": "e" * size}).access_token) == size


def test_tokens_are_not_shown_when_printed(atlassian: ProviderSpec):
    tokens = _tokens(atlassian, {"access_token": "CANARY-7f3a", "refresh_token": "CANARY-7f3a"})

    assert "CANARY" not in repr(tokens)


def test_a_dead_grant_is_told_in_words_also_where_the_file_gives_none(plain: ProviderSpec):
    plain = dataclasses.replace(plain, error_map=())

    failure = _read(plain, {"error": "invalid_grant"}, 400)

    assert isinstance(failure, Failure)
    assert (failure.error, failure.cause) == (
        "invalid_grant",
        "Plain Hub no longer accepts its refresh token",
    )
