"""How long somebody stays signed in (H1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from portal import session_limits
from portal.session_limits import TIMES, _words

if TYPE_CHECKING:
    from django.test import Client

URL = "/applications/acme-tasks/members/"
POLL = {"HX-Request": "true", "X-Poll": "yes"}
HOUR = 3600


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that stands, and goes on when it is told to."""

    class Clock:
        now = 1_800_000_000.0

        def time(self) -> float:
            return self.now

        def go_on(self, seconds: float) -> None:
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(session_limits, "time", clock)
    return clock


@pytest.fixture
def client(cast, clock) -> Client:
    return cast.client("owner")


def is_signed_in(client, headers=None) -> bool:
    return client.get(URL, headers=headers).status_code == 200


def test_h1_whoever_clicks_nothing_for_two_hours_is_signed_out_on_the_server_and_told_why(client, clock):
    cookie = client.cookies["session"].value
    clock.go_on(2 * HOUR)

    sign_in = client.get(URL, follow=True)
    client.cookies["session"] = cookie

    assert sign_in.redirect_chain == [(f"/accounts/login/?next={URL}", 302)]
    assert "nothing was clicked for 2 hours" in sign_in.content.decode()
    assert not is_signed_in(client)


def test_h1_who_is_signed_out_while_sending_a_form_goes_on_at_the_page_it_was_on(client, clock, settings):
    clock.go_on(2 * HOUR)
    only_a_form = "/applications/acme-tasks/archive/"
    page = f"{settings.PUBLIC_URL}/applications/acme-tasks/settings/?from=a"

    sign_in = client.post(only_a_form, headers={"Referer": page}, follow=True)
    again = client.post(only_a_form, headers={"Referer": page}, follow=True)
    elsewhere = client.post(only_a_form, headers={"Referer": "https://evil.example/settings/"})

    assert sign_in.redirect_chain[0][0].endswith("?next=/applications/acme-tasks/settings/%3Ffrom%3Da")
    assert "What you just sent was not done." in sign_in.text
    assert "in another tab perhaps. What you just sent" in again.text
    assert elsewhere["Location"].endswith(f"?next={only_a_form}")


def test_h1_who_goes_on_clicking_stays_until_twelve_hours_are_over(client, clock):
    for _ in range(11):
        clock.go_on(HOUR)
        assert is_signed_in(client)
    clock.go_on(HOUR)

    sign_in = client.get(URL, follow=True)

    assert "signed out after 12 hours" in sign_in.content.decode()


def test_h1_what_a_page_asks_by_itself_is_no_click_and_loads_the_page_anew_when_it_is_over(client, clock):
    for _ in range(3):
        clock.go_on(0.6 * HOUR)
        assert is_signed_in(client, POLL)
    clock.go_on(0.2 * HOUR)

    response = client.get(URL, headers=POLL)

    assert (response.status_code, response["HX-Refresh"]) == (204, "true")


def test_somebody_else_s_sign_in_begins_anew(client, clock, cast):
    clock.go_on(1.9 * HOUR)
    client.force_login(cast.admin, backend="django.contrib.auth.backends.ModelBackend")
    clock.go_on(1.9 * HOUR)

    assert is_signed_in(client)


def test_a_session_from_before_there_were_limits_gets_them_now(client, clock):
    session = client.session
    del session[TIMES]
    session.save()

    assert is_signed_in(client)
    assert client.session[TIMES] == [clock.now, clock.now]


def test_an_operator_may_do_without_the_idle_limit(client, clock, settings):
    settings.SESSION_IDLE_MINUTES = 0
    clock.go_on(11.9 * HOUR)

    assert is_signed_in(client)


def test_seeing_somebody_is_noted_every_five_minutes_alone(client, clock):
    is_signed_in(client)
    before = client.session[TIMES]
    clock.go_on(299)
    is_signed_in(client)
    unchanged = client.session[TIMES]
    clock.go_on(1)
    is_signed_in(client)

    assert unchanged == before
    assert client.session[TIMES] == [before[0], clock.now]


def test_a_page_that_needs_no_login_is_shown_without_a_word(client, clock):
    clock.go_on(3 * HOUR)

    response = client.get("/api/docs")

    assert response.status_code == 200
    assert "signed out" not in response.content.decode()


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(1, "a minute"), (45, "45 minutes"), (60, "an hour"), (90, "90 minutes"), (120, "2 hours")],
)
def test_the_limit_in_words(minutes, words):
    assert _words(minutes) == words
