"""Both ways through the proxy, the one statement and the ordinary one, give the same answers and audit rows (D9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from portal import api_keys
from portal.audit import SYSTEM
from portal.models import ApiKey, AuditEvent, Event
from portal.rate_limits import RATE_LIMITS
from tests.factories import GrantFactory, ProviderConfigFactory
from tests.providers.peer import Peer, answering, reply
from tests.tokens.api.caller import Caller, without_link
from tokens import proxy
from tokens.models import Grant, GrantTokens, Site

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db


@pytest.fixture
def peer(settings, sandbox) -> Iterator[Peer]:
    with Peer(answering(reply(b'{"a":1}', headers="ETag: x\r\n"))) as peer:
        settings.SANDBOX_URL = f"http://127.0.0.1:{peer.port}"
        yield peer


@pytest.fixture
def caller(cast) -> Caller:
    caller = Caller(cast.application)
    RATE_LIMITS.take(caller.key.public_id, cast.application.pk)  # As if it had called before.
    return caller


@pytest.fixture
def grant(cast) -> Grant:
    return GrantFactory(
        provider_config=ProviderConfigFactory(application=cast.application), site_names=["acme", "Öl & Gas"]
    )


def call(caller: Caller, scheme: str, method: str, path: str, body: bytes) -> tuple[Any, bytes, bool]:
    """Return an answer, its body, and whether it took the one statement: which Django does not see."""
    caller.scheme = scheme
    with CaptureQueriesContext(connection) as queries:
        response = caller.send(method, path, body, **{"Content-Type": "application/json"})
        content = b"".join(response) if response.streaming else response.content
    return response, content, not any(query["sql"].startswith('SELECT "portal_apikey"') for query in queries)


def both(caller: Caller, path: str, method: str = "GET", body: bytes = b"") -> tuple[Any, Any, bool]:
    """Make the same call both ways; return what must be the same, and whether the first was answered at once."""
    told = []
    for scheme in ("Bearer", "bearer"):
        response, content, is_at_once = call(caller, scheme, method, path, body)
        headers = {name: value for name, value in response.items() if name not in OWN}
        told.append((response.status_code, headers, without_link(content), is_at_once))
    assert not told[1][3]
    return told[0][:3], told[1][:3], told[0][3]


# What differs from call to call.
OWN = {"X-Request-Id", "RateLimit-Remaining", "RateLimit-Reset"}


def rows() -> list[dict[str, Any]]:
    found = list(AuditEvent.objects.filter(event=Event.PROXY_CALLED).order_by("id").values())
    for row in found:
        row["detail"]["use_until"] = row["detail"]["use_until"][:10]
    return [
        {name: value for name, value in row.items() if name not in {"id", "at", "request_id"}}
        for row in found
    ]


@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        ("GET", "acme/jira/rest/api/3/x?a=b%20c", b""),
        ("GET", "ACME/jira/x", b""),
        ("HEAD", "cloud-acme/jira/x", b""),
        ("POST", "acme/jira/wiki/%C3%96l;a=b", b'{"b":2}'),
        ("DELETE", "acme/jira/" + "x" * 600, b""),
    ],
)
def test_d9_both_ways_make_the_same_call_with_the_same_audit_row(method, rest, body, caller, grant, peer):
    one, other, is_at_once = both(caller, f"proxy/{grant.pk}/{rest}", method, body)

    assert is_at_once
    assert one == other
    first, second = rows()
    assert first == second
    assert (first["detail"]["site"], first["detail"]["method"]) == ("cloud-acme", method)
    received = [text.replace(b"keep-alive", b"") for text in peer.received]
    assert received[0] == received[1]
    assert body in received[0]
    assert Grant.objects.get().used_at is not None
    assert proxy._under_way == {}


def _revoke_key(key: ApiKey, grant: Grant) -> None:
    api_keys.revoke(key, actor=SYSTEM)


def _key(**fields: Any) -> Any:
    return lambda key, grant: ApiKey.objects.filter(pk=key.pk).update(**fields)


def _grant(**fields: Any) -> Any:
    return lambda key, grant: Grant.objects.filter(pk=grant.pk).update(**fields)


UNUSUAL: dict[str, tuple[Any, str, str]] = {
    # What is done first, what is called, and the code of the answer.
    "revoked key": (_revoke_key, "acme/jira/x", "bad_key"),
    "expired key": (_key(expires_at="2020-01-01T00:00Z"), "acme/jira/x", "bad_key"),
    "wrong secret": (_key(secret_digest="0" * 64), "acme/jira/x", "bad_key"),
    "may read tokens alone": (_key(permissions=["tokens:read"]), "acme/jira/x", "missing_permission"),
    "another provider's key": (_key(provider_ids=["github"]), "acme/jira/x", "not_found"),
    "from elsewhere": (_key(networks=["203.0.113.0/24"]), "acme/jira/x", "ip_not_allowed"),
    "pending": (_grant(status="pending"), "acme/jira/x", "not_confirmed"),
    "revoked": (_grant(status="revoked"), "acme/jira/x", "revoked"),
    "needs reconnect": (_grant(status="needs_reconnect"), "acme/jira/x", "needs_reconnect"),
    "no token": (lambda *_: GrantTokens.objects.all().delete(), "acme/jira/x", "unreadable_token"),
    "several sites": (_grant(), "-/jira/x", "no_such_site"),
    "a site that was not chosen": (
        lambda *_: Site.objects.filter(name="acme").update(is_chosen=False),
        "acme/jira/x",
        "no_such_site",
    ),
    "a product that the site has not": (_grant(), "acme/confluence/x", "no_such_site"),
    "no product": (_grant(), "acme/nothing/x", "no_such_site"),
    "a way up": (_grant(), "acme/jira/a/../b", "bad_path"),
}


@pytest.mark.parametrize(("change", "rest", "code"), UNUSUAL.values(), ids=UNUSUAL)
def test_d3_what_is_unusual_is_refused_both_ways_and_calls_nobody(change, rest, code, caller, grant, peer):
    change(caller.key, grant)

    one, other, is_at_once = both(caller, f"proxy/{grant.pk}/{rest}")

    assert not is_at_once
    assert (one, f'"code": "{code}"'.encode() in one[2]) == (other, True)
    assert (rows(), peer.received, proxy._under_way) == ([], [], {})


def test_d1_a_stranger_s_key_calls_through_nobody_s_grant(caller, grant, peer, cast):
    stranger = Caller(cast.strangers_application)
    RATE_LIMITS.take(stranger.key.public_id, cast.strangers_application.pk)

    one, other, is_at_once = both(stranger, f"proxy/{grant.pk}/acme/jira/x")

    assert (one[0], one, is_at_once) == (404, other, False)
    assert peer.received == []


def test_d2_limits_and_places_are_counted_at_once_too(caller, grant, peer, settings):
    settings.API_RATE_LIMIT = 2
    path = f"proxy/{grant.pk}/acme/jira/x"

    first, second = (call(caller, "Bearer", "GET", path, b"") for _ in range(2))

    assert (first[0].status_code, first[2]) == (200, True)
    assert second[0].json()["code"] == "rate_limited"
    assert len(rows()) == 1
