"""D8, D10: how often a key and its application may call, and how often a wrong key may be tried."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from portal import api_keys, rate_limits
from portal.rate_limits import RATE_LIMITS, LimitReachedError, RateLimits
from tests.factories import GrantFactory, ProviderConfigFactory
from tests.tokens.api.caller import Caller

if TYPE_CHECKING:
    from tokens.models import Grant

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _within_one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no minute end in the middle of a test."""
    monkeypatch.setattr(rate_limits.time, "time", lambda: 1_800_000_010.0)


@pytest.fixture
def grant(cast, sandbox) -> Grant:
    return GrantFactory(provider_config=ProviderConfigFactory(application=cast.application))


def unknown_key() -> str:
    body = f"dpk_{'0' * 12}_{'0' * 43}"
    return body + api_keys.checksum(body)


@pytest.mark.parametrize("path", ["grants", "grants/{grant}/token"])
def test_d8_a_key_that_calls_too_often_is_told_when_to_come_back(path, cast, grant, settings):
    settings.API_RATE_LIMIT = 3
    caller, other = Caller(cast.application), Caller(cast.application)
    path = path.format(grant=grant.pk)

    answers = [caller.get(path) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer["RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert {answer["RateLimit-Limit"] for answer in answers} == {"3"}
    refused = answers[3]
    assert refused["Content-Type"] == "application/problem+json"
    assert (refused.json()["code"], refused.json()["retry_after"]) == ("rate_limited", 50)
    assert refused["Retry-After"] == refused["RateLimit-Reset"] == "50"
    assert other.get(path).status_code == 200


def test_d8_an_application_with_many_keys_has_a_limit_too(cast, grant, settings):
    settings.API_RATE_LIMIT = 2
    callers = [Caller(cast.application) for _ in range(rate_limits.KEYS_AN_APPLICATION + 1)]

    statuses = [caller.get("grants").status_code for caller in callers for _ in range(2)]

    assert statuses == [200] * 2 * rate_limits.KEYS_AN_APPLICATION + [429, 429]
    assert Caller(cast.strangers_application).get("grants").status_code == 200


def test_d8_the_next_minute_begins_anew(cast, grant, settings, monkeypatch):
    settings.API_RATE_LIMIT = 1
    caller = Caller(cast.application)
    assert [caller.get("grants").status_code for _ in range(2)] == [200, 429]

    monkeypatch.setattr(rate_limits.time, "time", lambda: 1_800_000_060.0)

    assert caller.get("grants").status_code == 200


def test_d8_processes_add_their_counts_up(settings):
    settings.API_RATE_LIMIT = 10
    one, other = RateLimits(), RateLimits()
    for _ in range(6):
        one.take("key", "application")
        other.take("key", "application")

    for process in (one, other, one):
        process.exchange()

    for process in (one, other):
        assert process.is_reached("key", None)
        with pytest.raises(LimitReachedError):
            process.take("key", "application")


def test_d8_while_valkey_is_gone_calls_are_let_in_and_counted_here(
    cast, grant, settings, monkeypatch, caplog
):
    settings.API_RATE_LIMIT = 2
    gone = rate_limits.redis.Redis(host="127.0.0.1", port=1)
    monkeypatch.setattr(rate_limits, "_valkey", lambda: gone)
    caller = Caller(cast.application)

    assert [caller.get("grants").status_code for _ in range(3)] == [200, 200, 429]
    with pytest.raises(rate_limits.redis.RedisError):
        RATE_LIMITS.exchange()


@pytest.mark.parametrize("path", ["grants", "grants/{grant}/token"])
def test_d10_whoever_tries_many_wrong_keys_is_not_heard_for_a_while(path, cast, grant, caplog):
    path = path.format(grant=grant.pk)
    right, wrong = Caller(cast.application), Caller(cast.application)
    wrong.text = unknown_key()
    from_there = {"REMOTE_ADDR": "203.0.113.9"}

    with caplog.at_level(logging.WARNING, "portal.rate_limits"):
        answers = [wrong.call("get", path, **from_there) for _ in range(rate_limits.MOST_WRONG_KEYS + 1)]

    assert [answer.status_code for answer in answers] == [401] * rate_limits.MOST_WRONG_KEYS + [429]
    assert len({answer.content for answer in answers[:-1]}) == 1
    # Said once, not for each; the thread that adds counts up may have something else to say meanwhile.
    assert caplog.text.count("Too many wrong API keys") == 1
    assert wrong.text not in caplog.text
    # Or else the right one among many guesses would be found.
    assert right.call("get", path, **from_there).status_code == 429
    assert right.call("get", path, REMOTE_ADDR="203.0.113.10").status_code == 200


def test_d10_the_addresses_of_one_ipv6_customer_count_as_one(cast):
    wrong = Caller(cast.application)
    wrong.text = unknown_key()

    for number in range(rate_limits.MOST_WRONG_KEYS):
        wrong.call("get", "grants", REMOTE_ADDR=f"2001:db8::{number:x}")

    assert wrong.call("get", "grants", REMOTE_ADDR="2001:db8::ffff").status_code == 429
    assert wrong.call("get", "grants", REMOTE_ADDR="2001:db8:0:1::1").status_code == 401


def test_d10_ipv4_callers_do_not_count_as_one_where_the_server_listens_on_ipv6(cast):
    right, wrong = Caller(cast.application), Caller(cast.application)
    wrong.text = unknown_key()

    for _ in range(rate_limits.MOST_WRONG_KEYS):
        wrong.call("get", "grants", REMOTE_ADDR="::ffff:203.0.113.9")

    assert right.call("get", "grants", REMOTE_ADDR="203.0.113.9").status_code == 429
    assert right.call("get", "grants", REMOTE_ADDR="::ffff:203.0.113.10").status_code == 200


def test_d10_an_address_on_one_link_alone_is_counted_too(cast):
    assert Caller(cast.application).call("get", "grants", REMOTE_ADDR="fe80::1%eth0").status_code == 200
