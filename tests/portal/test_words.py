"""Small template helpers."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from portal.templatetags.words import (
    ACCENTS,
    accent_for,
    browser,
    exactly,
    initial,
    machine_time,
    planned,
    when,
)


@pytest.mark.parametrize(
    ("away", "said"),
    [
        ({"seconds": 2}, "just now"),
        ({"seconds": 30}, "in 30 s"),
        ({"minutes": 41}, "in 41 min"),
        ({"hours": 2}, "in 2 h"),
        ({"days": 3}, "in 3 days"),
        ({"seconds": -30}, "30 s ago"),
        ({"minutes": -3}, "3 min ago"),
        ({"hours": -5}, "5 h ago"),
        ({"days": -29}, "29 days ago"),
    ],
)
def test_a_time_near_now_is_said_as_people_do(away: dict[str, int], said: str) -> None:
    # Half a second of slack, for the time that the test itself takes.
    at = timezone.now() + dt.timedelta(**away) + dt.timedelta(seconds=0.4)

    assert when(at) == said


def test_what_will_be_tried_is_never_said_to_be_over() -> None:
    assert planned(timezone.now() + dt.timedelta(minutes=3, seconds=0.4)) == "in 3 min"
    assert planned(timezone.now() + dt.timedelta(seconds=2)) == "now"
    assert planned(timezone.now() - dt.timedelta(minutes=3)) == "now"


def test_a_time_long_ago_is_said_as_a_date() -> None:
    at = dt.datetime(2025, 3, 3, 23, 30, tzinfo=dt.timezone(dt.timedelta(hours=-2)))

    assert when(at) == "4 March 2025"
    assert exactly(at) == "2025-03-04 01:30:00 UTC"
    assert machine_time(at) == "2025-03-04T01:30:00Z"


def test_no_time_is_never() -> None:
    assert when(None) == "never"
    assert exactly(None) == machine_time(None) == ""


@pytest.mark.parametrize(
    ("user_agent", "said"),
    [
        (
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36",
            "Chrome on Linux",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 Version/17.5 Safari/605.1.15",
            "Safari on macOS",
        ),
        ("Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0", "Firefox on Android"),
        ("curl/8.9", "Another program"),
        ("", "Another program"),
    ],
)
def test_a_browser_is_named(user_agent: str, said: str) -> None:
    assert browser(user_agent) == said


def test_an_avatar_has_a_letter_and_always_the_same_colour() -> None:
    assert initial(" acme") == "A"
    assert initial("") == "?"
    assert accent_for("Acme Tasks") == accent_for("Acme Tasks")
    assert {accent_for(f"application {n}") for n in range(50)} == set(ACCENTS)
