"""What people see when something goes wrong before or outside a view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.test import Client
from django.urls import include, path, reverse

if TYPE_CHECKING:
    from typing import Any

    from django.http import HttpRequest, HttpResponse
    from pytest_django.fixtures import SettingsWrapper


@login_not_required
def forbidden(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied("Your role in Acme Tasks (Auditor) does not let you add providers.")


@login_not_required
def suspicious(request: HttpRequest) -> HttpResponse:
    raise SuspiciousOperation("secret detail")


@login_not_required
def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("secret detail")


urlpatterns = [
    path("", include("portal.urls")),
    path("forbidden/", forbidden),
    path("suspicious/", suspicious),
    path("broken/", broken),
]
pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]


def test_not_found_says_what_to_do(client: Client) -> None:
    response = client.get("/nowhere/")

    assert response.status_code == 404
    assert "There is nothing here" in response.text
    assert "/accounts/login/" in response.text


def test_where_only_a_button_leads_it_says_so(client: Client) -> None:
    response = client.get(reverse("connect-start", args=["x" * 43]))

    assert (response.status_code, response["Allow"]) == (405, "POST")
    assert "Only a button leads here" in response.text


def test_forbidden_shows_the_sentence_of_the_one_who_refused(client: Client) -> None:
    response = client.get("/forbidden/")

    assert response.status_code == 403
    assert "Your role in Acme Tasks (Auditor) does not let you add providers." in response.text


def test_bad_request_tells_no_detail(client: Client) -> None:
    response = client.get("/suspicious/")

    assert response.status_code == 400
    assert "We did not understand that" in response.text
    assert "secret detail" not in response.text


def test_a_crash_tells_no_detail_and_asks_the_database_nothing(
    client: Client, django_assert_num_queries: Any
) -> None:
    client.raise_request_exception = False

    with django_assert_num_queries(0):
        response = client.get("/broken/")

    assert response.status_code == 500
    assert "Something broke on our side" in response.text
    assert "secret detail" not in response.text


@pytest.mark.parametrize(
    ("referer", "href", "button"),
    [
        (None, "/applications/", "To the start page"),
        ("{here}/accounts/login/?next=/x%22", "/accounts/login/?next=/x%22", "Load the page again"),
        ("https://evil.example/accounts/login/", "/applications/", "To the start page"),
    ],
)
def test_a_form_from_elsewhere_is_refused_in_our_words_and_our_own_leads_back_to_its_page(
    db: None, settings: SettingsWrapper, referer: str | None, href: str, button: str
) -> None:
    client = Client(enforce_csrf_checks=True)
    headers = {"Referer": referer.format(here=settings.PUBLIC_URL)} if referer else {}

    response = client.post("/accounts/login/", {"login": "jo@acme.example", "password": "x"}, headers=headers)

    assert response.status_code == 403
    assert "This form is too old" in response.text
    assert "Nothing was saved" in response.text
    assert f'<a class="button primary wide" href="{href}">{button}</a>' in response.text


@pytest.mark.parametrize(
    "address", ["/nowhere/", "/forbidden/", "/suspicious/", "/broken/", "/accounts/login/"]
)
def test_h3_the_policy_stands_on_every_page_and_allows_nothing_inline(client: Client, address: str) -> None:
    client.raise_request_exception = False

    response = client.get(address)

    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe-inline" not in policy
    assert "unsafe-eval" not in policy
    assert " style=" not in response.text
    assert "<style" not in response.text


def test_every_page_says_that_the_sandbox_plays_atlassian(client: Client, settings: Any) -> None:
    settings.SANDBOX_URL = "http://127.0.0.1:8001"

    for address in ("/accounts/login/", "/nowhere/", "/forbidden/"):
        assert "Atlassian is played by" in client.get(address).text


def test_no_page_speaks_of_a_sandbox_without_one(client: Client) -> None:
    assert "Sandbox" not in client.get("/accounts/login/").text


def test_h3_no_referrer_leaves_but_forms_keep_their_origin(client: Client) -> None:
    response = client.get("/accounts/login/")

    assert response["Referrer-Policy"] == "same-origin"


def test_without_the_cache_signing_in_waits_in_words_and_pages_go_on_d8(cast, settings):
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://127.0.0.1:1/0",
            "OPTIONS": {"socket_connect_timeout": 1},
        }
    }

    refused = Client().post(reverse("account_login"), {"login": "owner@acme.example", "password": "guess"})
    page = cast.client("owner").get(reverse("application-list"))

    assert refused.status_code == 503
    assert "nobody can sign in just now" in " ".join(refused.content.decode().split())
    assert page.status_code == 200
