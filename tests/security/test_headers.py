"""Statements H1 to H7: headers, cookies, hosts, and that nothing development-like runs in production."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.test import Client, RequestFactory
from django.urls import reverse

from portal import checks
from portal.audit import client_address
from portal.local.production import production_environment
from portal.models import User
from tests.factories import PASSWORD, UserFactory
from tests.processes import ROOT, test_database_url
from tests.security.test_roles import ADDRESSES, PEOPLE, World, world  # noqa: F401

pytestmark = pytest.mark.django_db

CSP = {
    "default-src": "'none'",
    "object-src": "'none'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
}


# An application opens these in a pop-up, and sees when it is closed (connect.js).
KEEPS_ITS_OPENER = {"connect-page", "reconnect-page", "connect-callback", "connect-sites", "connect-result"}


def test_every_page_carries_the_headers_h3_h4(world: World) -> None:  # noqa: F811
    for name, address in ADDRESSES.items():
        for who in ("anonymous", "stranger", "owner"):
            response = world.cast.client(who).get(reverse(name, args=address.args(world)))

            require_headers(response, opener="unsafe-none" if name in KEEPS_ITS_OPENER else "same-origin")
            assert "no-store" in response["Cache-Control"], name


@pytest.mark.parametrize(
    "url", ["/accounts/login/", "/accounts/password/reset/", "/admin/", "/nowhere", "/static/nowhere.css"]
)
def test_pages_of_others_and_errors_carry_them_too_h3_h4(cast: Any, url: str) -> None:
    response = Client().get(url)

    require_headers(response)


@pytest.mark.parametrize("who", PEOPLE)
def test_django_admin_has_the_same_policy_h3(cast: Any, who: str) -> None:
    cast.owner.is_staff = cast.owner.is_superuser = True
    cast.owner.save()

    response = cast.client(who).get(reverse("admin:index"))

    require_headers(response)


def require_headers(response: Any, *, opener: str = "same-origin") -> None:
    directives = dict(
        part.strip().partition(" ")[::2] for part in response["Content-Security-Policy"].split(";")
    )
    assert CSP.items() <= directives.items()
    assert "unsafe" not in response["Content-Security-Policy"]
    assert directives["form-action"].startswith("'self'")
    assert response["X-Content-Type-Options"] == "nosniff"
    # To nobody else; to ourselves, because browsers then name the origin of a form, which CSRF protection needs.
    assert response["Referrer-Policy"] in {"same-origin", "no-referrer"}
    assert response["Cross-Origin-Opener-Policy"] == opener
    assert response["X-Frame-Options"] == "DENY"


PRODUCTION = """
import json, sys
import django
django.setup()
from django.test import Client

client = Client(headers={"host": "portal.example.com", "x-forwarded-proto": "https"})
page = client.get("/accounts/login/")
client.post("/accounts/login/", {"login": sys.argv[1], "password": sys.argv[2]}, headers={"origin": "https://portal.example.com"})
cookies = {name: {key: morsel[key] for key in ("secure", "httponly", "samesite", "path", "domain")}
           for name, morsel in client.cookies.items()}
from django.conf import settings
print(json.dumps({"status": page.status_code, "headers": dict(page.headers), "cookies": cookies, "debug": settings.DEBUG,
                  "demo": settings.DEMO}))
"""


@pytest.mark.django_db(transaction=True)
def test_production_sets_hsts_and_cookies_that_travel_alone_h2_h4(settings: Any, tmp_path: Any) -> None:
    # The process is a real one: it knows none of the tests' quick hashes.
    user = UserFactory()
    User.objects.update(password=make_password(PASSWORD, hasher="pbkdf2_sha256"))

    seen = in_production(settings, PRODUCTION, user.email, PASSWORD)

    assert seen["status"] == 200
    assert (seen["debug"], seen["demo"]) == (False, False)
    assert seen["headers"]["Strict-Transport-Security"] == "max-age=63072000; includeSubDomains; preload"
    session, csrf = seen["cookies"]["__Host-session"], seen["cookies"]["__Host-csrf"]
    for cookie in (session, csrf):
        assert cookie == {"secure": True, "httponly": True, "samesite": "Lax", "path": "/", "domain": ""}
    assert {name for name in seen["cookies"] if not name.startswith("__Host-")} <= {"messages"}


def in_production(settings: Any, script: str, *arguments: str) -> Any:
    """Run a script under production settings, on the test's database and cache, and read what it prints."""
    environment = {
        **production_environment(),
        "DATABASE_URL": test_database_url(),
        "REDIS_URL": settings.REDIS_URL,
    }
    environment |= {"DATA_DIR": str(settings.DATA_DIR), "PYTHONPATH": str(ROOT)}
    collected = settings.STATIC_ROOT
    prelude = f"from portal import settings as own; from pathlib import Path; own.STATIC_ROOT = Path({str(collected)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", prelude + script, *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_signing_in_changes_the_session_and_signing_out_ends_it_h1(cast: Any) -> None:
    browser = Client()
    browser.get(reverse("account_login"))
    planted = browser.session
    planted["planted"] = "by somebody else"
    planted.save()
    browser.cookies["session"] = str(planted.session_key)

    browser.post(reverse("account_login"), {"login": cast.owner.email, "password": PASSWORD})

    after = browser.cookies["session"].value
    assert after != planted.session_key
    browser.post(reverse("account_logout"))
    thief = Client()
    thief.cookies["session"] = after
    assert thief.get(reverse("application-list")).status_code == 302


def test_disabling_an_account_ends_its_sessions_h1(cast: Any) -> None:
    browser = cast.client("owner")
    cast.owner.is_active = False
    cast.owner.save()

    assert browser.get(reverse("application-list")).status_code == 302


@pytest.mark.parametrize(
    "host", ["evil.example", "testserver.evil.example", "evil.example:80", "testserver@evil.example"]
)
def test_another_host_is_refused_h6(db: None, host: str) -> None:
    response = Client(headers={"host": host}).get(reverse("account_login"))

    assert response.status_code == 400
    assert "evil.example" not in response.content.decode()


def test_a_forwarded_host_is_not_believed_h6(db: None) -> None:
    response = Client(headers={"x-forwarded-host": "evil.example"}).get(reverse("account_login"))

    assert "evil.example" not in response.content.decode()


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        (0, "192.0.2.1", "127.0.0.1"),
        (1, "192.0.2.66, 192.0.2.1", "192.0.2.1"),
        (2, "192.0.2.66, 192.0.2.1, 10.0.0.1", "192.0.2.1"),
        (1, "", "127.0.0.1"),
        (3, "192.0.2.1", "127.0.0.1"),
        (1, "nonsense", None),
        (1, "2001:DB8::1", "2001:db8::1"),
    ],
)
def test_only_our_own_proxies_say_where_somebody_comes_from_h6(settings, trusted, forwarded, address) -> None:
    settings.TRUSTED_PROXIES = trusted

    assert client_address(RequestFactory().get("/", headers={"x-forwarded-for": forwarded})) == address


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DEMO", True, "portal.E004"),
        ("DEBUG", True, "portal.E004"),
        ("FAULT_MOMENTS_DIR", "/moments", "portal.E004"),
        ("INSECURE_HTTP", True, "portal.E004"),
    ],
)
def test_development_switches_are_refused_away_from_this_machine_g8_h9(settings, name, value, said) -> None:
    settings.PUBLIC_URL = "https://portal.example.com"
    settings.DEMO = settings.DEBUG = settings.INSECURE_HTTP = False
    assert checks.check_development_switches() == []

    setattr(settings, name, value)

    assert [message.id for message in checks.check_development_switches()] == [said]


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        (["portal.example.com"], []),
        (["*"], ["portal.E005"]),
        ([".example.com"], ["portal.E005"]),
        (["other.example.com"], ["portal.E006"]),
    ],
)
def test_hosts_are_named_one_by_one_h6(settings, hosts, said) -> None:
    settings.PUBLIC_URL = "https://portal.example.com"
    settings.ALLOWED_HOSTS = hosts

    assert [message.id for message in checks.check_allowed_hosts()] == said


@pytest.mark.parametrize(
    ("url", "is_insecure", "said"),
    [
        ("https://portal.example.com", False, []),
        ("http://portal.example.com", False, ["portal.E003"]),
        ("http://127.0.0.1:8000", True, []),
        ("portal.example.com", False, ["portal.E002"]),
        ("https://portal.example.com/path", False, ["portal.E002"]),
        ("ftp://portal.example.com", False, ["portal.E002"]),
    ],
)
def test_the_public_address_is_an_origin_and_https(settings, url, is_insecure, said) -> None:
    settings.PUBLIC_URL, settings.INSECURE_HTTP = url, is_insecure

    assert [message.id for message in checks.check_public_url()] == said
