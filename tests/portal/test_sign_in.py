"""Getting in and out: sessions, limits, second factors, invitations only."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import (
    SECRET_SESSION_KEY,
    format_hotp_value,
    hotp_value,
    yield_hotp_counters_from_time,
)
from allauth.usersessions.models import UserSession
from django.conf import settings as django_settings
from django.contrib.sessions.models import Session
from django.core import checks, mail
from django.db import connection
from django.test import Client
from django.urls import reverse

from portal.session_limits import TIMES
from tests.factories import PASSWORD, UserFactory

if TYPE_CHECKING:
    from typing import Any

    from django.http import HttpResponse
    from pytest_django.fixtures import DjangoAssertNumQueries

    from portal.models import User

pytestmark = pytest.mark.django_db
# A page for signed-in people that is there whatever else is.
INSIDE = "/accounts/sessions/"


@pytest.fixture
def user() -> User:
    return UserFactory.create(email="jo@acme.example")


def test_the_right_password_lets_in_and_leads_on(client: Client, user: User) -> None:
    response = sign_in(client, next=INSIDE)

    assert response.status_code == 302
    assert response["Location"] == INSIDE
    assert client.get(INSIDE).status_code == 200


def test_signing_in_needs_no_message(client: Client, user: User) -> None:
    sign_in(client)

    assert '<div class="messages" role="status"></div>' in client.get(INSIDE).text


@pytest.mark.parametrize("name", ["account_login", "account_reset_password", "account_email"])
def test_an_address_is_called_the_same_everywhere(client: Client, user: User, name: str) -> None:
    if name == "account_email":
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")

    page = client.get(reverse(name)).text

    assert ">E-mail</label>" in page
    assert ">Email</label>" not in page


def test_a_wrong_password_says_so_and_tells_nobody_whether_the_address_is_known(
    client: Client, user: User
) -> None:
    known = sign_in(client, password="wrong")
    unknown = sign_in(client, login="nobody@acme.example", password="wrong")

    for response in (known, unknown):
        assert response.status_code == 200
        assert "There is no account with this e-mail address and this password." in response.text


def test_h1_signing_in_gives_the_session_a_new_id(client: Client, user: User) -> None:
    planted = client.session
    planted["theirs"] = "yes"
    planted.save()
    before = planted.session_key

    sign_in(client)

    assert client.session.session_key != before
    assert not Session.objects.filter(session_key=before).exists()


def test_h1_signing_out_ends_the_session_on_the_server(client: Client, user: User) -> None:
    sign_in(client)
    key = client.session.session_key

    client.post(reverse("account_logout"))

    assert not Session.objects.filter(session_key=key).exists()
    assert client.get(INSIDE).status_code == 302


def test_signing_out_needs_a_post(client: Client, user: User) -> None:
    sign_in(client)

    response = client.get(reverse("account_logout"))

    assert "Sign out?" in response.text
    assert client.get(INSIDE).status_code == 200


def test_h1_the_other_sessions_are_listed_and_ended_in_one_step(
    client: Client, user: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    stolen = Client(headers={"user-agent": "Mozilla/5.0 (Windows NT 10.0) Firefox/140.0"})
    ended, away = (
        Client(headers={"user-agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}) for _ in range(2)
    )
    sign_in(ended)
    Session.objects.all().delete()
    sign_in(away)
    session = away.session
    session[TIMES] = [1, 1]
    session.save()
    for browser in (stolen, *(Client() for _ in range(5)), client):
        sign_in(browser)
    with django_assert_max_num_queries(10):
        page = client.get(INSIDE)

    with django_assert_max_num_queries(6):
        client.post(INSIDE)

    assert "Firefox on Windows" in page.text
    assert "Firefox on Linux" not in page.text
    assert not away.session.exists(session.session_key)
    assert stolen.get(INSIDE).status_code == 302
    assert client.get(INSIDE).status_code == 200
    assert UserSession.objects.filter(user=user).count() == 1


def test_h1_a_new_password_ends_what_the_reset_link_could_do(client: Client, user: User) -> None:
    client.post(reverse("account_reset_password"), {"email": user.email})
    link = next(word for word in mail.outbox[0].body.split() if "/password/reset/key/" in word)
    path = client.get(link, follow=True).request["PATH_INFO"]

    client.post(path, {"password1": "a much longer horse", "password2": "a much longer horse"})

    assert link.startswith(django_settings.PUBLIC_URL)
    assert sign_in(Client(), password=PASSWORD).status_code == 200
    assert sign_in(Client(), password="a much longer horse").status_code == 302
    assert "This link no longer works" in Client().get(link, follow=True).text


def test_the_reset_page_tells_nobody_whether_the_address_is_known(client: Client) -> None:
    response = client.post(reverse("account_reset_password"), {"email": "nobody@acme.example"}, follow=True)

    assert "If there is an account with this address" in response.text


def test_wrong_passwords_are_limited_for_each_address(client: Client, user: User) -> None:
    for _ in range(5):
        sign_in(client, password="wrong")

    response = sign_in(client)

    assert "Too many wrong tries. Wait five minutes" in response.text


def test_tries_from_one_place_are_limited_and_the_page_is_ours(client: Client, settings: Any) -> None:
    for number in range(31):
        response = sign_in(client, login=f"nobody{number}@acme.example", password="wrong")

    assert response.status_code == 429
    assert "Too many tries" in response.text
    assert "portal" in response.text


def test_accounts_are_by_invitation_only(client: Client) -> None:
    page = client.get(reverse("account_signup"))
    response = client.post(
        reverse("account_signup"), {"email": "new@acme.example", "password1": "a much longer horse"}
    )

    assert "Accounts are by invitation" in page.text
    assert "Accounts are by invitation" in response.text
    assert not UserFactory._meta.model.objects.filter(email="new@acme.example").exists()


def test_an_account_that_is_switched_off_gets_nobody_in(client: Client, user: User) -> None:
    user.is_active = False
    user.save()

    response = sign_in(client)

    assert response["Location"] == reverse("account_inactive")
    assert client.get(INSIDE).status_code == 302


def test_the_next_page_can_not_be_on_another_site(client: Client, user: User) -> None:
    response = sign_in(client, next="https://evil.example/")

    assert not response["Location"].startswith("https://evil.example")


def test_the_demo_login_is_shown_in_the_demo_alone(client: Client, settings: Any) -> None:
    settings.DEMO_PASSWORD = "demo-password-42"
    without = client.get(reverse("account_login")).text
    settings.DEMO = True

    within = client.get(reverse("account_login")).text

    assert "demo-password-42" not in without
    assert "demo-password-42" in within


def test_c1_the_secret_of_an_authenticator_app_is_never_in_the_database_in_clear(
    client: Client, user: User
) -> None:
    secret = begin_totp(client)
    waiting = dict(Session.objects.get(session_key=client.session.session_key).get_decoded())

    response = client.post(reverse("mfa_activate_totp"), {"code": code_for(secret)})

    assert response.status_code == 302
    stored = Authenticator.objects.get(user=user, type=Authenticator.Type.TOTP).data["secret"]
    assert secret not in waiting[SECRET_SESSION_KEY]
    assert SECRET_SESSION_KEY not in client.session
    assert secret.encode() not in base64.b64decode(stored)
    assert secret not in stored
    assert get_adapter().decrypt(stored) == secret
    assert secret not in everything_about_second_factors()


def test_c1_recovery_codes_are_sealed_too(client: Client, user: User) -> None:
    client.post(reverse("mfa_activate_totp"), {"code": code_for(begin_totp(client))})

    page = client.get(reverse("mfa_view_recovery_codes"))

    authenticator = Authenticator.objects.get(user=user, type=Authenticator.Type.RECOVERY_CODES)
    codes = authenticator.wrap().get_unused_codes()
    assert len(codes) == 10
    assert all(code in page.text for code in codes)
    stored = everything_about_second_factors()
    assert get_adapter().decrypt(authenticator.data["seed"]) not in stored
    assert not any(code in stored for code in codes)


@pytest.mark.parametrize(
    ("required", "is_staff", "is_led_there"),
    [("off", True, False), ("staff", False, False), ("staff", True, True), ("everyone", False, True)],
)
def test_h8_who_must_have_a_second_factor_sets_one_up_before_anything_else(
    client: Client, user: User, settings: Any, required: str, is_staff: bool, is_led_there: bool
) -> None:
    settings.REQUIRE_SECOND_FACTOR = required
    user.is_staff = user.is_superuser = is_staff
    user.save()
    sign_in(client)

    before = [client.get(reverse(page)) for page in ("application-create", "application-list")]
    client.post(reverse("mfa_activate_totp"), {"code": code_for(begin_totp(client))})

    assert all((page.headers.get("Location") == reverse("mfa_index")) == is_led_there for page in before)
    assert client.get(reverse("application-list")).status_code == 200


def test_h8_no_page_of_django_admin_is_open_without_the_second_factor(
    client: Client, user: User, settings: Any
) -> None:
    settings.REQUIRE_SECOND_FACTOR = "staff"
    user.is_staff = user.is_superuser = True
    user.save()
    sign_in(client)

    names = ("index", "mfa_authenticator_changelist", "account_emailaddress_changelist")
    pages = [client.get(reverse(f"admin:{name}")) for name in names]

    assert {page.headers.get("Location") for page in pages} == {reverse("mfa_index")}


def test_h8_a_missing_second_factor_stops_neither_end_users_nor_programs(
    client: Client, settings: Any
) -> None:
    settings.REQUIRE_SECOND_FACTOR = "everyone"

    assert client.get("/healthz").status_code == 200
    assert client.get("/api/v1/grants").status_code == 401
    assert client.get("/connect/nothing/").status_code == 404


def test_a_mistyped_requirement_of_second_factors_is_refused_at_the_start(settings: Any) -> None:
    settings.REQUIRE_SECOND_FACTOR = "yes"

    assert "portal.E009" in {error.id for error in checks.run_checks()}


def test_a_wrong_code_keeps_the_key_that_was_scanned(client: Client, user: User) -> None:
    secret = begin_totp(client)

    response = client.post(reverse("mfa_activate_totp"), {"code": "000000"})

    assert "This code is not right" in response.text
    assert secret in response.text
    assert client.post(reverse("mfa_activate_totp"), {"code": code_for(secret)}).status_code == 302


def test_a_password_alone_does_not_get_past_the_second_step(client: Client, user: User) -> None:
    secret = begin_totp(client)
    client.post(reverse("mfa_activate_totp"), {"code": code_for(secret)})
    other = Client()

    first = sign_in(other)
    between = other.get(INSIDE)
    wrong = other.post(reverse("mfa_authenticate"), {"code": "000000"})
    right = other.post(reverse("mfa_authenticate"), {"code": code_for(secret)})

    assert first["Location"].startswith(reverse("mfa_authenticate"))
    assert between.status_code == 302
    assert "This code is not right" in wrong.text
    assert right.status_code == 302
    assert other.get(INSIDE).status_code == 200


def test_what_changes_the_way_in_asks_for_the_password_again(client: Client, user: User) -> None:
    sign_in(client)

    for name in ("mfa_activate_totp", "mfa_add_webauthn"):
        response = client.get(reverse(name))

        assert response["Location"].startswith(reverse("account_reauthenticate"))


def test_atlassian_is_offered_when_it_is_configured(client: Client, settings: Any) -> None:
    before = client.get(reverse("account_login")).text
    app = {"client_id": "an-id", "secret": "a secret", "key": ""}
    settings.SOCIALACCOUNT_PROVIDERS = {"atlassian": {"APPS": [app]}}

    page = client.get(reverse("account_login")).text
    response = client.post(reverse("atlassian_login"))

    assert "Sign in with Atlassian" not in before
    assert "Sign in with Atlassian" in page
    assert response.status_code == 302
    assert response["Location"].startswith("https://auth.atlassian.com/authorize?")


@pytest.mark.parametrize(
    ("client_id", "allowed"), [("", "'self'"), ("an-id", "'self', 'https://*.atlassian.com'")]
)
def test_forms_may_lead_to_atlassian_only_where_it_signs_people_in(client_id: str, allowed: str) -> None:
    program = (
        "from portal import settings as s; print(s.CONTENT_SECURITY_POLICY['DIRECTIVES']['form-action'])"
    )
    env = {**os.environ, "SIGN_IN_ATLASSIAN_CLIENT_ID": client_id}

    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )

    assert done.stdout.replace('"', "").strip() == f"[{allowed}]"


def sign_in(client: Client, **changes: str) -> HttpResponse:
    data = {"login": "jo@acme.example", "password": PASSWORD, **changes}
    return client.post(reverse("account_login"), data)


def begin_totp(client: Client) -> str:
    """Sign in, prove it again, and return the secret that the page shows."""
    sign_in(client)
    client.post(reverse("account_reauthenticate"), {"password": PASSWORD})
    response = client.get(reverse("mfa_activate_totp"))
    secret: str = response.context["form"].secret
    return secret


def code_for(secret: str) -> str:
    return format_hotp_value(hotp_value(secret, list(yield_hotp_counters_from_time())[-1]))


def everything_about_second_factors() -> str:
    """Return what a dump of the tables of second factors, sessions and caches would hold."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT data::text FROM mfa_authenticator UNION ALL SELECT session_data FROM django_session"
        )
        return "\n".join(row[0] for row in cursor.fetchall())
