"""E1, E4 to E9: what the proxy lets through, and what it does not, over real sockets."""

from __future__ import annotations

import socket
import time
import uuid
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.core import checks
from django.db import connection

from portal.models import AuditEvent, Event
from portal.rate_limits import RATE_LIMITS
from providers import http_stream
from providers.sandbox.people import account_named
from tests.factories import CANARY, CLIENT_SECRET, GrantFactory, ProviderConfigFactory, database_now
from tests.providers.peer import Peer, answering, reply
from tests.tokens.api.caller import Caller
from tokens import proxy
from tokens.errors import TooManyAtOnceError
from tokens.models import Grant, GrantStatus, Site
from tokens.proxy_headers import harmless_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from providers.models import ProviderConfig

pytestmark = pytest.mark.django_db


@pytest.fixture
def config(cast, sandbox) -> ProviderConfig:
    config = ProviderConfigFactory(application=cast.application)
    sandbox.register_client(config.client_id, CLIENT_SECRET)
    return config


@pytest.fixture
def grant(config) -> Grant:
    return GrantFactory(provider_config=config)


@pytest.fixture(params=["at once", "ordinary"])
def caller(cast, request) -> Caller:
    """Return a back end whose calls go the one way or the other, where both are open: every rule holds on both."""
    caller = Caller(cast.application)
    if request.param == "at once":
        RATE_LIMITS.take(caller.key.public_id, cast.application.pk)  # As if it had called before.
    else:
        caller.scheme = "bearer"
    return caller


@pytest.fixture
def at(settings, sandbox, monkeypatch) -> Callable[[Peer], None]:
    """Let a misbehaving server play the provider's API."""

    def play(peer: Peer) -> None:
        settings.SANDBOX_URL = f"http://127.0.0.1:{peer.port}"

    return play


def through(
    caller: Caller, grant: Grant, path: str = "rest/api/3/myself", method: str = "GET", **options: Any
) -> Any:
    return caller.send(method, f"proxy/{grant.pk}/acme/jira/{path}", **options)


def body_of(response: Any) -> bytes:
    return b"".join(response) if response.streaming else response.content


# --- E1: a path, never a host ---------------------------------------------------------------------------------------

TRICKS = [
    "https://evil.example/",
    "https:/evil.example/",
    "/evil.example/x",
    "//evil.example/x",
    "@evil.example/x",
    "rest/../../../x",
    "rest/..",
    "../x",
    "..;/x",
    "rest/..;a=b/x",
    "rest/./x",
    "rest/%252e%252e/x",
    "rest/%2e%2e/x",
    "%2e%2e/x",
    "rest/%2F/x",
    "rest%5Cx",
    "..%5Cx",
    "rest/%23x",
    "rest/%3Fx",
    "rest/a%00b",
    "rest/a%09b",
    "rest//x",
    "rest/%2520x",
    # A slash inside a part is held to what holds for a slash.
    "%252Fevil.example/x",
    "%252F%252Fevil.example/x",
    "rest/%252F/x",
    "rest/x%252F%252Fy",
    "rest%252F/x",
    "rest/..%252Fx",
    "rest%252F..%252Fx",
    "rest%252f%2e%2e%252fx",
    "rest%252F..;%252Fx",
    "rest/.%252Fx",
    "https:%252F%252Fevil.example/x",
    "https:%252Fevil.example/x",
    # Encoded three times, or something else twice.
    "rest/a%25252Fb",
    "rest/a%252Eb",
    "rest/%252e%252e%252Fx",
    "rest/a%255Cb",
    "rest/a%2500b",
    "rest/a%2F%2Fb",
    # Blanks that some servers trim.
    "rest/..%20/x",
    "rest/%20../x",
    "rest/%20/x",
    "%20/evil.example/x",
    "%20@evil.example/x",
    "rest/..%20;a=b/x",
]


@pytest.mark.parametrize("path", TRICKS)
def test_e1_a_path_that_could_lead_elsewhere_is_refused(path, caller, grant, sandbox):
    response = through(caller, grant, path)

    assert (response.status_code, response.json()["code"]) == (400, "bad_path")
    assert sandbox.ledger() == []
    assert not AuditEvent.objects.filter(event=Event.PROXY_CALLED).exists()


def test_e1_a_line_break_in_the_path_is_no_address_at_all(caller, grant, sandbox):
    assert through(caller, grant, "rest/a%0d%0aX-Evil:%20yes").status_code == 404
    assert sandbox.ledger() == []


@pytest.mark.parametrize("query", ["a=b c", "a=\tb", "a=ü", "a#b"])
def test_e1_a_query_with_what_does_not_belong_in_one_is_refused(query, caller, grant):
    response = caller.call("get", f"proxy/{grant.pk}/acme/jira/x", QUERY_STRING=query)

    assert (response.status_code, response.json()["code"]) == (400, "bad_path")


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("rest/api/3/myself", "/rest/api/3/myself"),
        ("rest/api/3/user/a%20b@c/x;y=1", "/rest/api/3/user/a%20b@c/x;y=1"),
        ("rest/api/3/issue/a%252Fb", "/rest/api/3/issue/a%2Fb"),
        ("rest/api/3/issue/a%252fb%20%252F%20c%252F", "/rest/api/3/issue/a%2fb%20%2F%20c%2F"),
        ("rest/50%25%20of%20it/%C3%96%252FL", "/rest/50%25%20of%20it/%C3%96%2FL"),
        ("rest/x?a=%252F", "/rest/x?a=%252F"),
        ("rest/api/3/issue/%C3%96L-1", "/rest/api/3/issue/%C3%96L-1"),
        ("wiki/a+b(c)'d,e:f", "/wiki/a+b(c)'d,e:f"),
        (
            "rest/api/3/search/jql?jql=project%20%3D%20%22A%2FB%22&x=%252e",
            "/rest/api/3/search/jql?jql=project%20%3D%20%22A%2FB%22&x=%252e",
        ),
        ("rest/x/", "/rest/x/"),
        ("rest/..x/...", "/rest/..x/..."),
    ],
)
def test_e1_an_honest_path_arrives_as_it_was_meant(path, sent, caller, grant, at):
    with Peer(answering(reply())) as peer:
        at(peer)
        response = through(caller, grant, path)
        body_of(response)

    assert response.status_code == 200
    line = peer.received[0].split(b"\r\n")[0].decode()
    assert line == f"GET /ex/jira/cloud-acme{sent} HTTP/1.1"


@pytest.mark.parametrize("site", ["acme", "ACME", "cloud-acme", "-"])
def test_e1_the_site_is_one_of_the_grant_s(site, caller, grant, at):
    with Peer(answering(reply())) as peer:
        at(peer)
        response = caller.get(f"proxy/{grant.pk}/{site}/jira/x")
        body_of(response)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("site", "product"),
    [
        ("other", "jira"),
        ("cloud-hidden", "jira"),
        ("acme", "confluence"),
        ("acme", "evil.example"),
        ("127.0.0.1", "jira"),
    ],
)
def test_e1_another_site_or_product_is_not_there(site, product, caller, grant):
    Site.objects.create(
        grant=grant, cloud_id="cloud-hidden", name="hidden", products=["Jira"], is_chosen=False
    )

    response = caller.get(f"proxy/{grant.pk}/{site}/{product}/x")

    assert (response.status_code, response.json()["code"]) == (404, "no_such_site")
    assert response.json()["sites"] == [{"cloud_id": "cloud-acme", "name": "acme", "products": ["jira"]}]


# --- E2, E3: the guards of the door ---------------------------------------------------------------------------------


def test_e3_the_proxy_reaches_no_private_address(caller, grant, settings):
    # What the catalog says leads to this machine, and the operator named no such host.
    settings.SANDBOX_URL = ""
    settings.EGRESS_PRIVATE_HOSTS = []
    with Peer(answering(reply())) as trap, pytest.raises(http_stream.StreamFailedError) as failure:
        http_stream.open_stream("GET", trap.url(), {})

    assert failure.value.why.reason == "blocked"
    assert trap.connections == 0


def test_e2_plain_http_is_refused_unless_development_allows_it(settings):
    settings.EGRESS_PLAIN_HTTP = False

    with pytest.raises(http_stream.StreamFailedError) as failure:
        http_stream.open_stream("GET", "http://api.example/", {})

    assert failure.value.why.reason == "blocked"


# --- E4: redirects --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_e4_a_redirect_is_handed_back_and_never_followed(status, caller, grant, at):
    with Peer(answering(reply())) as trap:
        moved = reply(status=f"{status} Moved", headers=f"Location: {trap.url('/evil')}\r\n")
        with Peer(answering(moved)) as peer:
            at(peer)
            response = through(caller, grant, "x")
    body_of(response)

    assert response.status_code == status
    assert trap.connections == 0
    assert "Location" not in response
    assert response["X-Portal-Location"] == trap.url("/evil")


@pytest.mark.parametrize("location", ["/ex/jira/cloud-acme/rest/y?z=1", "y?z=1"])
def test_e4_a_redirect_at_the_same_site_leads_through_the_proxy(location, caller, grant, at):
    with Peer(answering(reply(status="302 Found", headers=f"Location: {location}\r\n"))) as peer:
        at(peer)
        response = through(caller, grant, "rest/x")
    body_of(response)

    assert response["Location"] == f"http://testserver/api/v1/proxy/{grant.pk}/cloud-acme/jira/rest/y?z=1"


def test_e4_a_slash_inside_a_part_of_such_a_redirect_arrives_as_it_was_meant(caller, grant, at):
    moved = reply(status="302 Found", headers="Location: /ex/jira/cloud-acme/a%2Fb/c%20d?z=%2F\r\n")
    with Peer(answering(moved)) as peer:
        at(peer)
        there = through(caller, grant, "rest/x")["Location"]
        body_of(caller.send("GET", there.partition("/api/v1/")[2]))

    assert there.endswith("/jira/a%252Fb/c%20d?z=%2F")
    assert peer.received[1].startswith(b"GET /ex/jira/cloud-acme/a%2Fb/c%20d?z=%2F HTTP")


# --- E5, E6: headers ------------------------------------------------------------------------------------------------


def test_e5_the_caller_says_nothing_of_who_asks_and_from_where(caller, grant, at):
    evil = {
        "Cookie": "evil=1",
        "X-Forwarded-For": "evil",
        "X-Forwarded-Host": "evil",
        "Forwarded": "for=evil",
        "Proxy-Authorization": "evil",
        "Connection": "X-Evil",
        "X-Evil": "evil",
        "TE": "evil",
        "Upgrade": "evil",
        "X-Real-IP": "evil",
        "X-Original-URL": "/evil",
        "X-HTTP-Method-Override": "EVIL",
        "Origin": "https://evil.example",
        "Referer": "https://evil.example",
        "Accept": "text/x-good",
        "X-Atlassian-Token": "no-check",
        "If-None-Match": '"good"',
    }
    with Peer(answering(reply())) as peer:
        at(peer)
        body_of(through(caller, grant, "x", **evil))

    head = peer.received[0].decode()
    assert "evil" not in head.lower()
    assert caller.text not in head
    assert f"Authorization: Bearer {CANARY}-access-token" in head
    assert head.count("Authorization") == 1
    assert f"Host: 127.0.0.1:{peer.port}" in head
    assert "Accept: text/x-good" in head
    assert "X-Atlassian-Token: no-check" in head.replace("X-ATLASSIAN-TOKEN", "X-Atlassian-Token")
    assert 'If-None-Match: "good"' in head


@pytest.mark.parametrize("value", ["a\r\nX-Evil: yes", "a\nb", "a\x00b"])
def test_e5_a_line_break_in_a_header_is_refused(value, caller, grant, sandbox):
    response = caller.call(
        "get",
        f"proxy/{grant.pk}/acme/jira/x",
        HTTP_ACCEPT=value,
        headers={"Authorization": f"Bearer {caller.text}"},
    )

    assert (response.status_code, response.json()["code"]) == (400, "bad_path")


def test_e6_only_harmless_headers_come_back_and_nothing_is_a_page_of_ours(caller, grant, at):
    evil = "".join(
        f"{name}: evil\r\n"
        for name in (
            *(
                "Set-Cookie",
                "Clear-Site-Data",
                "Access-Control-Allow-Origin",
                "Access-Control-Allow-Credentials",
            ),
            *(
                "Strict-Transport-Security",
                "Content-Security-Policy",
                "Refresh",
                "Link",
                "Service-Worker-Allowed",
            ),
            *(
                "X-Accel-Redirect",
                "X-Request-Id",
                "Server",
                "Via",
                "Alt-Svc",
                "SourceMap",
                "WWW-Authenticate",
            ),
        )
    )
    good = 'ETag: "1"\r\nRetry-After: 7\r\nX-RateLimit-Remaining: 3\r\nRateLimit-Reason: jira-burst-based\r\nBeta-RateLimit: x\r\nATL-TraceId: t\r\n'
    page = reply(b"<script>alert(1)</script>", headers=evil + good).replace(
        b"application/json", b"text/html; charset=utf-8"
    )
    with Peer(answering(page)) as peer:
        at(peer)
        response = through(caller, grant, "x")

    assert body_of(response) == b"<script>alert(1)</script>"
    assert "evil" not in str(response.headers).lower()
    assert not response.cookies
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"].startswith("sandbox;")
    assert response["X-Portal-Provider"] == "atlassian"
    assert response["Cache-Control"] == "no-store"
    for line in good.split("\r\n")[:-1]:
        name, _, value = line.partition(": ")
        assert response[name] == value
    assert "RateLimit-Limit" not in response


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("text/html", "text/plain"),
        ("TEXT/HTML;charset=x", "text/plain;charset=x"),
        ("application/xhtml+xml", "text/plain"),
        ("image/svg+xml", "text/plain"),
        ("application/json", "application/json"),
        ("image/png", "image/png"),
    ],
)
def test_e6_what_a_browser_would_run_is_plain_text(given, told):
    assert harmless_type(given) == told


# --- E7: limits -----------------------------------------------------------------------------------------------------


def test_e7_an_application_has_so_many_places_and_gets_them_back(caller, grant, at, cast):
    with Peer(answering(reply())) as peer:
        at(peer)
        held = [through(caller, grant, "x") for _ in range(proxy.MOST_AT_ONCE)]
        refused = through(caller, grant, "x")
        body_of(held.pop())
        again = through(caller, grant, "x")
        for response in [*held, again]:
            body_of(response)

    assert (refused.status_code, refused.json()["code"], refused["Retry-After"]) == (
        429,
        "too_many_at_once",
        "1",
    )
    assert again.status_code == 200
    assert proxy._under_way == {}


def test_e7_slow_calls_of_several_applications_leave_threads_for_everything_else():
    busy, other, third = (uuid.uuid4() for _ in range(3))
    with ExitStack() as held:
        for number in range(proxy.MOST_OF_ALL):
            held.enter_context(proxy.place_in_line(busy if number < proxy.MOST_AT_ONCE else other))
        with pytest.raises(TooManyAtOnceError), proxy.place_in_line(third):
            pass

    with proxy.place_in_line(third):
        pass
    assert proxy._under_way == {}


def test_e7_a_provider_that_does_not_answer_frees_the_place_in_time(caller, grant, at, monkeypatch):
    monkeypatch.setattr(http_stream, "HEAD_SECONDS", 0.3)

    def silent(peer: Peer, connection: socket.socket) -> None:
        peer.read(connection)
        peer.stopping.wait(5)

    with Peer(silent) as peer:
        at(peer)
        started = time.monotonic()
        response = through(caller, grant, "x")

    assert (response.status_code, response.json()["code"]) == (504, "upstream_timeout")
    assert response.json()["may_have_arrived"] is True
    assert time.monotonic() - started < 4
    assert proxy._under_way == {}


def test_e7_an_answer_that_stops_in_the_middle_breaks_off_for_the_caller_too(caller, grant, at, monkeypatch):
    monkeypatch.setattr(http_stream, "IDLE_SECONDS", 0.3)

    def stalls(peer: Peer, connection: socket.socket) -> None:
        peer.read(connection)
        connection.sendall(reply(b"x" * 100)[:-50])
        peer.stopping.wait(5)

    with Peer(stalls) as peer:
        at(peer)
        response = through(caller, grant, "x")
        with pytest.raises(http_stream.StreamFailedError):
            body_of(response)

    assert proxy._under_way == {}


CHUNKED = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def trickling(head: bytes, part: bytes) -> Callable[[Peer, socket.socket], None]:
    """Behave as a provider that never ends, and never pauses for long either."""

    def behave(peer: Peer, connection: socket.socket) -> None:
        peer.read(connection)
        connection.sendall(head)
        while not peer.stopping.wait(0.05):
            connection.sendall(part)

    return behave


def test_e7_a_call_has_a_deadline_whatever_comes_meanwhile(caller, grant, at, settings):
    settings.PROXY_DEADLINE_S = 1
    started = time.monotonic()
    with Peer(trickling(reply(b"x" * 10_000)[:-10_000], b"x")) as peer:
        at(peer)
        response = through(caller, grant, "x")
        with pytest.raises(http_stream.StreamFailedError, match="deadline"):
            body_of(response)

    assert (response.status_code, response["Content-Length"]) == (200, "10000")
    assert time.monotonic() - started < 4
    assert proxy._under_way == {}


def test_e7_at_the_deadline_the_caller_is_told_so_where_the_answer_has_not_begun(caller, grant, at, settings):
    settings.PROXY_DEADLINE_S = 1

    def silent(peer: Peer, connection: socket.socket) -> None:
        peer.read(connection)
        peer.stopping.wait(5)

    with Peer(silent) as peer:
        at(peer)
        response = through(caller, grant, "x")

    assert (response.status_code, response.json()["code"]) == (504, "upstream_timeout")
    assert "not over after 1 seconds" in response.json()["detail"]
    assert response.json()["may_have_arrived"] is True
    assert proxy._under_way == {}


def test_e7_without_time_for_a_call_nothing_starts(settings):
    settings.PROXY_DEADLINE_S = 0

    assert "portal.E010" in {error.id for error in checks.run_checks()}


def test_e7_the_second_try_has_no_time_of_its_own(caller, real, at, sandbox, monkeypatch):
    ends = []
    real_open = proxy.open_stream

    def noting(*args: Any) -> Any:
        ends.append(args[4])
        return real_open(*args)

    monkeypatch.setattr(proxy, "open_stream", noting)

    body_of(through(caller, real))

    assert len(ends) == 2
    assert ends[0] == ends[1]


@pytest.mark.parametrize(
    ("breaks", "status", "code"), [("reset", 502, "upstream_failed"), ("stall", 504, "upstream_timeout")]
)
def test_e7_an_answer_of_unknown_length_that_breaks_off_is_no_whole_answer(
    breaks, status, code, caller, grant, at, monkeypatch
):
    """The web server ends an answer without a length in the same way, whether it broke off or not."""
    monkeypatch.setattr(http_stream, "IDLE_SECONDS", 0.5)

    def half(peer: Peer, connection: socket.socket) -> None:
        peer.read(connection)
        connection.sendall(CHUNKED.encode() + b"5\r\n[1,2,\r\n")
        if breaks == "stall":
            peer.stopping.wait(5)

    with Peer(half) as peer:
        at(peer)
        response = through(caller, grant, "x")

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["may_have_arrived"] is True
    assert proxy._under_way == {}


def test_e7_a_short_answer_of_unknown_length_is_given_one(caller, grant, at):
    with Peer(answering(CHUNKED.encode() + b"2\r\n[1\r\n3\r\n,2]\r\n0\r\n\r\n")) as peer:
        at(peer)
        response = through(caller, grant, "x")

    assert (body_of(response), response["Content-Length"]) == (b"[1,2]", "5")
    assert proxy._under_way == {}


def test_e7_a_long_answer_of_unknown_length_streams_without_one(caller, grant, at, monkeypatch):
    monkeypatch.setattr("tokens.api.proxy.HELD_ANSWER", 1000)
    part = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    with Peer(answering(CHUNKED.encode() + part * 5000 + b"0\r\n\r\n")) as peer:
        at(peer)
        response = through(caller, grant, "x")
        body = body_of(response)

    assert "Content-Length" not in response
    assert body == b"x" * 5_000_000
    assert proxy._under_way == {}


def test_e7_a_place_is_held_until_the_last_part_is_taken(caller, grant, at):
    """What was read ahead too: a caller who does not read holds a thread of the web server with it."""

    def two_parts(peer: Peer, connection: socket.socket) -> None:
        peer.read(connection)
        connection.sendall(CHUNKED.encode() + b"2\r\n[1\r\n")
        peer.stopping.wait(0.2)
        connection.sendall(b"3\r\n,2]\r\n0\r\n\r\n")

    with Peer(two_parts) as peer:
        at(peer)
        parts = iter(through(caller, grant, "x"))
        next(parts)
        held = dict(proxy._under_way)
        rest = b"".join(parts)

    assert (list(held.values()), rest) == ([1], b",2]")
    assert proxy._under_way == {}


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_e7_what_has_no_body_gets_no_length(status, caller, grant, at):
    with Peer(answering(f"HTTP/1.1 {status}\r\nETag: x\r\n\r\n".encode())) as peer:
        at(peer)
        response = through(caller, grant, "x")

    assert "Content-Length" not in response
    assert body_of(response) == b""


def test_e7_bodies_are_bounded_both_ways(caller, grant, at, monkeypatch):
    monkeypatch.setattr(proxy, "MOST_BYTES", 1000)
    monkeypatch.setattr("tokens.api.proxy.MOST_BYTES", 1000)
    with Peer(answering(reply(b"x" * 1001))) as peer:
        at(peer)
        too_much = through(caller, grant, "x", "POST", body=b"y" * 1001)
        too_long = through(caller, grant, "x")

    assert (too_much.status_code, too_much.json()["code"]) == (413, "too_large")
    assert (too_long.status_code, too_long.json()["code"]) == (502, "answer_too_large")
    assert len(peer.received) == 1


def test_e7_a_provider_that_is_not_there_is_told_in_words(caller, grant, settings):
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings.SANDBOX_URL = f"http://127.0.0.1:{server.getsockname()[1]}"

    response = through(caller, grant, "x", "POST", body=b"{}")

    assert (response.status_code, response.json()["code"]) == (502, "upstream_failed")
    assert response.json()["may_have_arrived"] is False


# --- E8, D9: what is written down -----------------------------------------------------------------------------------


def test_e8_the_token_reaches_no_log_and_no_audit_row_although_the_provider_echoes_it(
    caller, grant, at, caplog
):
    echo = reply(f"Bearer {CANARY}-access-token".encode(), status="500 Oops")
    with caplog.at_level("DEBUG"), Peer(answering(echo)) as peer:
        at(peer)
        response = through(caller, grant, "rest/x?secret=" + CANARY)
        body_of(response)

    assert response.status_code == 500
    assert CANARY not in caplog.text
    event = AuditEvent.objects.get(event=Event.PROXY_CALLED)
    assert CANARY not in str(event.__dict__)
    assert event.detail == {
        "provider": "atlassian",
        "gen": 0,
        "method": "GET",
        "product": "jira",
        "site": "cloud-acme",
        "path": "/rest/x",
        "use_until": event.detail["use_until"],
    }
    assert (event.subject_id, event.actor_id) == (str(grant.pk), str(caller.key.pk))
    assert event.request_id == response["X-Request-Id"]


def test_d9_without_the_audit_row_no_call_is_made(caller, grant, sandbox):
    with connection.cursor() as cursor:
        cursor.execute(
            """
            CREATE FUNCTION refuse_calls() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'the audit log is full'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON portal_auditevent FOR EACH ROW
            WHEN (NEW.event = 'proxy:called') EXECUTE FUNCTION refuse_calls();
            """
        )

    response = through(caller, grant)

    assert (response.status_code, response.json()["code"]) == (503, "audit_unavailable")
    assert sandbox.ledger() == []


# --- E9: a token that is refused ------------------------------------------------------------------------------------


@pytest.fixture
def real(config, sandbox) -> Grant:
    """Return a grant whose access token the sandbox does not know any more, and whose refresh token it does."""
    minted = sandbox.mint(config.client_id, account="jo")[0]
    grant = GrantFactory(
        provider_config=config,
        access_token=f"{CANARY}-access-token",
        refresh_token=minted["refresh_token"],
        account_id=minted["account_id"],
        site_names=[],
    )
    reached = account_named("jo").sites[0]
    Site.objects.create(grant=grant, cloud_id=reached.cloud_id, name="acme", products=["Jira"])
    return grant


def calls(sandbox, path: str) -> list[Any]:
    return [call for call in sandbox.ledger() if path in call["path"]]


def test_e9_a_refused_token_is_refreshed_once_and_the_call_made_again(caller, real, sandbox):
    response = through(caller, real)

    assert response.status_code == 200
    assert b"accountId" in body_of(response)
    assert len(calls(sandbox, "/oauth/token")) == 1
    assert len(calls(sandbox, "/myself")) == 2
    # The second use is on record like the first.
    assert AuditEvent.objects.filter(event=Event.PROXY_CALLED).count() == 2


def test_e9_a_post_is_not_made_again_but_the_next_one_works(caller, real, sandbox):
    first = through(
        caller, real, "rest/api/3/search/jql", "POST", body=b"{}", **{"Content-Type": "application/json"}
    )
    body_of(first)

    assert first.status_code == 401
    assert len(calls(sandbox, "/oauth/token")) == 1
    assert len(calls(sandbox, "/search")) == 1
    again = through(caller, real)
    body_of(again)
    assert again.status_code == 200


def test_e9_a_token_that_somebody_else_replaced_meanwhile_is_not_refreshed_again(
    caller, real, sandbox, monkeypatch
):
    real_open = proxy.open_stream

    def replaced_meanwhile(*args: Any) -> Any:
        answer = real_open(*args)
        if Grant.objects.get(pk=real.pk).gen == 0:
            Grant.objects.filter(pk=real.pk).update(gen=1)
        return answer

    monkeypatch.setattr(proxy, "open_stream", replaced_meanwhile)

    body_of(through(caller, real))

    assert calls(sandbox, "/oauth/token") == []
    assert len(calls(sandbox, "/myself")) == 2


def test_e9_an_endpoint_that_refuses_every_token_spends_one_rotation(caller, real, sandbox):
    sandbox.fault("status_before", on="/ex/*", status=401, times=-1)

    for _ in range(4):
        response = through(caller, real)
        body_of(response)
        assert response.status_code == 401

    assert len(calls(sandbox, "/oauth/token")) == 1


def test_e9_a_missing_scope_is_no_reason_to_refresh(caller, config, sandbox):
    minted = sandbox.mint(
        config.client_id, account="jo", scope="read:me offline_access read:confluence-user"
    )[0]
    grant = GrantFactory(
        provider_config=config,
        access_token=minted["access_token"],
        refresh_token=minted["refresh_token"],
        site_names=[],
    )
    Site.objects.create(
        grant=grant, cloud_id=account_named("jo").sites[0].cloud_id, name="acme", products=["Jira"]
    )

    response = through(caller, grant)

    assert response.status_code == 401
    assert b"scope does not match" in body_of(response)
    assert calls(sandbox, "/oauth/token") == []


@pytest.mark.parametrize("status", [403, 404])
def test_e9_a_403_or_404_means_an_expired_token_only_if_the_stored_one_has_run_out(
    status, caller, real, sandbox, monkeypatch
):
    sandbox.fault("status_before", on="/ex/*", status=status, times=1)
    response = through(caller, real)
    body_of(response)
    assert response.status_code == status
    assert calls(sandbox, "/oauth/token") == []

    # It runs out while the call is under way.
    real_open = proxy.open_stream

    def slow(*args: Any) -> Any:
        answer = real_open(*args)
        if Grant.objects.get(pk=real.pk).gen == 0:
            monkeypatch.setattr(proxy, "database_now", lambda: database_now() + timedelta(hours=2))
        return answer

    monkeypatch.setattr(proxy, "open_stream", slow)
    sandbox.fault("status_before", on="/ex/*", status=status, times=1)

    body_of(through(caller, real))

    assert len(calls(sandbox, "/oauth/token")) == 1


@pytest.mark.parametrize("trait", ["pending", "needs_reconnect", "revoked"])
def test_a_grant_that_gives_no_token_makes_no_call(trait, caller, config, sandbox):
    grant = GrantFactory(provider_config=config, **{trait: True})

    response = through(caller, grant)

    assert response.status_code == 409
    assert calls(sandbox, "/ex/") == []
    assert Grant.objects.exclude(status=GrantStatus.ACTIVE).exists()
