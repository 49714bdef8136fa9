"""Every address with every role, a stranger and nobody (D1, D12, and DESIGN's table of roles).

The addresses come from the resolver, so a new one without a row in ADDRESSES fails `test_every_address_has_a_row`.
To add one, write a row: which arguments lead to something that is there, and who may GET and POST it. What is posted
has none of the form's fields, so a form that may be sent answers 422.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

from portal import api_keys
from portal.access import PERMISSIONS, Permission
from portal.audit import SYSTEM
from portal.invitations import invite
from portal.models import (
    ApiKey,
    Application,
    Invitation,
    Membership,
    Role,
    WebhookEndpoint,
    WebhookMessage,
)
from tests.factories import GrantFactory, ProviderConfigFactory
from tokens.connect import open_session
from tokens.models import Confirmation
from tokens.webhooks import endpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.django_db

LOGIN = "login"
MEMBERS = [role.value for role in Role]
PEOPLE = ["anonymous", "stranger", "auditor", "support", "admin", "owner"]

Rule = dict[str, "int | str"]


def only(*roles: str, status: int = 200) -> Rule:
    """These roles get an answer, other members 403; to a stranger it is not there, a visitor is to sign in."""
    return {
        "anonymous": LOGIN,
        "stranger": 404,
        **dict.fromkeys(MEMBERS, 403),
        **dict.fromkeys(roles, status),
    }


def allowed(permission: Permission, status: int = 200) -> Rule:
    """Whoever has a permission gets an answer."""
    return only(
        *(role.value for role, permissions in PERMISSIONS.items() if permission in permissions), status=status
    )


def members(status: int = 200) -> Rule:
    """Every member gets an answer."""
    return only(*MEMBERS, status=status)


def signed_in(status: int = 200) -> Rule:
    """Everybody with an account gets an answer."""
    return {**everybody(status), "anonymous": LOGIN}


def everybody(status: int = 200) -> Rule:
    """Everybody gets the same answer, signed in or not."""
    return dict.fromkeys(PEOPLE, status)


def nobody(*, is_public: bool = False) -> Rule:
    """The method does not exist (D12)."""
    return everybody(405) if is_public else signed_in(405)


@dataclass(frozen=True)
class World:
    """What the arguments of addresses lead to."""

    cast: Any
    config: Any
    grant: Any
    membership: Membership
    invitation: Invitation
    link: str
    connect_session: Any
    connect_link: str
    api_key: ApiKey
    endpoint: WebhookEndpoint
    message: WebhookMessage


@dataclass(frozen=True)
class Address:
    """Who gets what at one address."""

    args: Callable[[World], list[object]]
    get: Rule
    post: Rule


def _nothing(world: World) -> list[object]:
    return []


def _slug(world: World) -> list[object]:
    return ["acme-tasks"]


def _member(world: World) -> list[object]:
    return ["acme-tasks", world.membership.pk]


def _invitation(world: World) -> list[object]:
    return ["acme-tasks", world.invitation.pk]


def _api_key(world: World) -> list[object]:
    return ["acme-tasks", world.api_key.pk]


def _endpoint(world: World) -> list[object]:
    return ["acme-tasks", world.endpoint.pk]


def _message(world: World) -> list[object]:
    return ["acme-tasks", world.message.uid]


def _provider(world: World) -> list[object]:
    return ["acme-tasks", "atlassian"]


def _grant(world: World) -> list[object]:
    return ["acme-tasks", world.grant.pk]


def _api_grant(world: World) -> list[object]:
    return [world.grant.pk]


def _session(world: World) -> list[object]:
    return [world.connect_session.pk]


def _link(world: World) -> list[object]:
    return [world.connect_link]


# Arguments that name something inside an application by its id.
BELOW = {_member, _invitation, _grant, _api_key, _endpoint, _message}

MANAGE = Permission.MANAGE_PROVIDERS
OPERATE, GRANTS = Permission.OPERATE_GRANTS, Permission.MANAGE_GRANTS
WEBHOOKS = Permission.MANAGE_WEBHOOKS
PEOPLE_MANAGERS = Permission.MANAGE_MEMBERS
# The pages of one browser's connect session: to every other browser they are not there (A3).
NOT_THEIRS = everybody(404)
# The API: a login counts for nothing there (tests/security/test_api.py has it with keys).
NO_KEY, NO_METHOD = everybody(401), everybody(405)
# Methods beside GET and POST that exist.
MORE_METHODS = {
    "api-grant": {"patch", "delete"},
    "api-proxy": {"put", "patch", "delete"},
    "api-nothing": {"put", "patch", "delete", "trace"},
}

ADDRESSES: dict[str, Address] = {
    # --- portal
    "healthz": Address(_nothing, everybody(), nobody(is_public=True)),
    "readyz": Address(_nothing, everybody(), nobody(is_public=True)),
    # Tests run on this machine, as under `make run` (tests/tokens/test_metrics.py has the rest).
    "metrics": Address(_nothing, everybody(), nobody(is_public=True)),
    "home": Address(_nothing, signed_in(302), nobody()),
    "application-list": Address(_nothing, signed_in(), nobody()),
    "application-create": Address(_nothing, signed_in(), signed_in(422)),
    "application-settings": Address(
        _slug, allowed(Permission.MANAGE_APPLICATION), allowed(Permission.MANAGE_APPLICATION, 422)
    ),
    "application-archive": Address(_slug, nobody(), only("owner", status=302)),
    "application-restore": Address(_slug, nobody(), only("owner", status=302)),
    # 302: the question for the password comes first.
    "application-delete": Address(_slug, only("owner", status=302), only("owner", status=302)),
    "application-logo": Address(_slug, everybody(404), nobody(is_public=True)),
    "member-list": Address(_slug, members(), nobody()),
    "member-invite": Address(_slug, allowed(PEOPLE_MANAGERS), allowed(PEOPLE_MANAGERS, 422)),
    "member-change": Address(_member, allowed(PEOPLE_MANAGERS), allowed(PEOPLE_MANAGERS, 422)),
    # The auditor's own membership: everybody may leave.
    "member-remove": Address(
        _member, only("owner", "admin", "auditor"), only("owner", "admin", "auditor", status=302)
    ),
    "invitation-withdraw": Address(_invitation, nobody(), allowed(PEOPLE_MANAGERS, 302)),
    "invitation-accept": Address(
        lambda world: [world.link], everybody(), {**everybody(403), "anonymous": 422}
    ),
    "api-key-list": Address(_slug, allowed(Permission.MANAGE_APPLICATION), nobody()),
    "api-key-create": Address(
        _slug, allowed(Permission.MANAGE_APPLICATION), allowed(Permission.MANAGE_APPLICATION, 422)
    ),
    # 302: it asks for the password first.
    "api-key-export": Address(
        _slug, allowed(Permission.EXPORT_GRANTS, 302), allowed(Permission.EXPORT_GRANTS, 302)
    ),
    "api-key-change": Address(
        _api_key, allowed(Permission.MANAGE_APPLICATION), allowed(Permission.MANAGE_APPLICATION, 422)
    ),
    "api-key-rotate": Address(
        _api_key, allowed(Permission.MANAGE_APPLICATION), allowed(Permission.MANAGE_APPLICATION, 422)
    ),
    "api-key-revoke": Address(
        _api_key, allowed(Permission.MANAGE_APPLICATION), allowed(Permission.MANAGE_APPLICATION, 302)
    ),
    "audit-log": Address(_slug, allowed(Permission.VIEW_AUDIT), nobody()),
    "audit-export": Address(_slug, nobody(), allowed(Permission.VIEW_AUDIT)),
    # --- providers
    "provider-list": Address(_slug, members(), nobody()),
    "provider-gallery": Address(_slug, allowed(MANAGE), nobody()),
    # 302: there is one already, which is where it leads.
    "provider-add": Address(_provider, allowed(MANAGE, 302), allowed(MANAGE)),
    "provider-detail": Address(_provider, members(), allowed(MANAGE)),
    "provider-enable": Address(_provider, nobody(), allowed(MANAGE, 302)),
    "provider-disable": Address(_provider, allowed(MANAGE), allowed(MANAGE, 302)),
    "provider-freshness": Address(_provider, allowed(MANAGE), allowed(MANAGE)),
    "provider-let-end": Address(_provider, allowed(MANAGE, 302), allowed(MANAGE, 302)),
    "provider-delete": Address(_provider, allowed(MANAGE, 302), allowed(MANAGE, 302)),
    "provider-connect": Address(_provider, nobody(), allowed(GRANTS, 302)),
    # --- tokens
    "application-overview": Address(_slug, members(), nobody()),
    "health": Address(_slug, members(), nobody()),
    "connect-guide": Address(_slug, members(), nobody()),
    "grant-list": Address(_slug, members(), nobody()),
    "grant-create": Address(_slug, allowed(GRANTS), allowed(GRANTS, 422)),
    "grant-detail": Address(_grant, members(), nobody()),
    "grant-refresh": Address(_grant, nobody(), allowed(OPERATE, 302)),
    "grant-reconnect": Address(_grant, nobody(), allowed(OPERATE)),
    "grant-confirm": Address(_grant, nobody(), allowed(GRANTS, 302)),
    "grant-reject": Address(_grant, nobody(), allowed(GRANTS, 302)),
    "grant-revoke": Address(_grant, allowed(GRANTS), allowed(GRANTS, 302)),
    # --- webhooks
    "webhook-list": Address(_slug, members(), nobody()),
    "webhook-create": Address(_slug, allowed(WEBHOOKS), allowed(WEBHOOKS, 422)),
    "webhook-detail": Address(_endpoint, members(), nobody()),
    "webhook-change": Address(_endpoint, allowed(WEBHOOKS), allowed(WEBHOOKS, 422)),
    "webhook-rotate": Address(_endpoint, allowed(WEBHOOKS), allowed(WEBHOOKS, 422)),
    "webhook-disable": Address(_endpoint, nobody(), allowed(WEBHOOKS, 302)),
    "webhook-enable": Address(_endpoint, nobody(), allowed(WEBHOOKS, 302)),
    "webhook-delete": Address(_endpoint, allowed(WEBHOOKS), allowed(WEBHOOKS, 302)),
    "webhook-test": Address(_endpoint, nobody(), allowed(WEBHOOKS, 302)),
    "webhook-redeliver-failed": Address(_endpoint, nobody(), allowed(WEBHOOKS, 302)),
    "webhook-message": Address(_message, members(), nobody()),
    "webhook-redeliver": Address(_message, nobody(), allowed(WEBHOOKS, 302)),
    # --- the API
    "api-token": Address(_nothing, NO_KEY, NO_METHOD),
    "api-grants": Address(_nothing, NO_KEY, NO_METHOD),
    "api-grant": Address(_api_grant, NO_KEY, NO_METHOD),
    "api-grant-token": Address(_api_grant, NO_KEY, NO_METHOD),
    "api-grant-refresh": Address(_api_grant, NO_METHOD, NO_KEY),
    "api-grant-reconnect": Address(_api_grant, NO_METHOD, NO_KEY),
    "api-manage-links": Address(_nothing, NO_METHOD, NO_KEY),
    "api-grants-import": Address(_nothing, NO_METHOD, NO_KEY),
    "api-grants-export": Address(_nothing, NO_KEY, NO_METHOD),
    "api-audit": Address(_nothing, NO_KEY, NO_METHOD),
    "api-proxy": Address(lambda world: [world.grant.pk, "-", "jira", "x"], NO_KEY, NO_KEY),
    "api-openapi": Address(_nothing, everybody(), NO_METHOD),
    "api-connect-sessions": Address(_nothing, NO_METHOD, NO_KEY),
    "api-connect-session": Address(_session, NO_KEY, NO_METHOD),
    "api-connect-exchange": Address(_nothing, NO_METHOD, NO_KEY),
    "api-reference": Address(_nothing, everybody(), nobody(is_public=True)),
    "api-problem": Address(lambda world: ["not_found"], everybody(), NO_METHOD),
    "api-nothing": Address(lambda world: ["nothing/here"], everybody(404), everybody(404)),
    # --- end users: no login, the browser that connects is what counts
    "connect-page": Address(_link, everybody(), nobody(is_public=True)),
    "connect-start": Address(_link, nobody(is_public=True), everybody(303)),
    "connect-callback": Address(_provider, everybody(400), nobody(is_public=True)),
    "connect-sites": Address(_session, NOT_THEIRS, NOT_THEIRS),
    "connect-result": Address(_session, NOT_THEIRS, nobody(is_public=True)),
    "connect-return": Address(_session, nobody(is_public=True), NOT_THEIRS),
    "connect-again": Address(_session, nobody(is_public=True), NOT_THEIRS),
    "reconnect-page": Address(_link, NOT_THEIRS, NOT_THEIRS),
    "manage-open": Address(_link, NOT_THEIRS, NOT_THEIRS),
    "manage-page": Address(_session, NOT_THEIRS, nobody(is_public=True)),
    "manage-disconnect": Address(
        lambda world: [world.connect_session.pk, world.grant.pk], NOT_THEIRS, NOT_THEIRS
    ),
    "my-connection": Address(lambda world: [world.grant.pk], NOT_THEIRS, nobody(is_public=True)),
    "my-connection-disconnect": Address(lambda world: [world.grant.pk], NOT_THEIRS, NOT_THEIRS),
}

# Whole parts that others wrote: allauth's pages are about the signed-in person alone, Django admin is tested below.
OTHERS = ("accounts/", "admin/")


@pytest.fixture
def world(cast, sandbox) -> World:
    config = ProviderConfigFactory(application=cast.application)
    invited = invite(cast.application, email="jo@example.com", role=Role.SUPPORT, by=cast.owner, actor=SYSTEM)
    session, link = open_session(
        config, end_user="user-1", confirmation=Confirmation.MEMBER, created_by=cast.owner, actor=SYSTEM
    )
    endpoint, _ = endpoints.create(
        cast.application, name="x", url="https://app.example/", types=["grant.revoked"], actor=SYSTEM
    )
    return World(
        cast=cast,
        endpoint=endpoint,
        message=endpoints.send_test(endpoint, actor=SYSTEM),
        config=config,
        grant=GrantFactory(provider_config=config, pending=True),
        membership=Membership.objects.get(application=cast.application, user=cast.auditor),
        invitation=invited.invitation,
        link=invited.shown_url.split("/")[-2],
        connect_session=session,
        connect_link=link,
        api_key=api_keys.create(cast.application, name="back end", permissions=["connect"], actor=SYSTEM)[0],
    )


def names(*, below: str = "") -> set[str]:
    """Return the names of the addresses that begin with `below`; by default those of our own."""
    found = set(_walk(get_resolver().url_patterns))
    return {
        name for route, name in found if (route.startswith(below) if below else not route.startswith(OTHERS))
    }


def _walk(patterns: list[Any], route: str = "", space: str = "") -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        here = route + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            inside = f"{space}{pattern.namespace}:" if pattern.namespace else space
            yield from _walk(pattern.url_patterns, here, inside)
        elif isinstance(pattern, URLPattern):
            yield here, f"{space}{pattern.name}"


def test_every_address_has_a_row():
    assert names() == set(ADDRESSES)


@pytest.mark.parametrize("name", ADDRESSES)
def test_everybody_gets_what_their_role_allows_d1(world, name):
    address = ADDRESSES[name]
    url = reverse(name, args=address.args(world))
    found: dict[str, Rule] = {"get": {}, "post": {}}

    for who in PEOPLE:
        client = world.cast.client(who)
        for method, outcomes in found.items():
            # Not atomic(): code that insists on the outermost transaction must run as it does for people.
            before = transaction.savepoint()
            response = getattr(client, method)(url, {"nothing": "1"})
            transaction.savepoint_rollback(before)
            outcomes[who] = _outcome(response)

    assert found == {"get": address.get, "post": address.post}


def test_methods_that_do_not_exist_are_405_d12(world):
    client = world.cast.client("owner")

    for name, address in ADDRESSES.items():
        url = reverse(name, args=address.args(world))
        for method in {"put", "patch", "delete", "trace"} - MORE_METHODS.get(name, set()):
            assert getattr(client, method)(url).status_code == 405, f"{method} {url}"


def test_through_another_application_nothing_is_there_d1(world):
    """The stranger's own slug with somebody else's id: the same 404 as for an id that does not exist."""
    client = world.cast.client("stranger")
    unknown: dict[type, object] = {int: 999_999, uuid.UUID: uuid.uuid4(), str: "nothing"}
    below = {name: address.args(world)[1] for name, address in ADDRESSES.items() if address.args in BELOW}
    assert len(below) >= 9

    for name, key in below.items():
        for method in ("get", "post"):
            theirs = getattr(client, method)(reverse(name, args=["other-product", key]))
            absent = getattr(client, method)(reverse(name, args=["other-product", unknown[type(key)]]))
            assert theirs.status_code == absent.status_code, name
            assert theirs.status_code in {404, 405}, name


def test_no_slug_tells_whether_an_application_exists_d1(cast):
    client = cast.client("stranger")
    theirs = client.get(reverse("application-overview", args=["acme-tasks"]))
    absent = client.get(reverse("application-overview", args=["never-heard-of"]))

    assert theirs.status_code == absent.status_code == 404
    assert theirs.content.replace(b"acme-tasks", b"") == absent.content.replace(b"never-heard-of", b"")


@pytest.mark.parametrize("who", ["anonymous", "stranger", "owner"])
def test_django_admin_is_for_staff_alone(world, who):
    client = world.cast.client(who)
    urls = [url for url in map(_admin_url, sorted(names(below="admin/"))) if url]
    assert urls

    for url in urls:
        response = client.get(url)
        assert response.status_code in {302, 403, 404}, f"{who} got {response.status_code} at {url}"


def _admin_url(name: str) -> str | None:
    for args in ([], ["1"], ["portal"], [1, 1]):
        try:
            return reverse(name, args=args)
        except NoReverseMatch:
            continue
    return None


def test_nobody_sees_applications_without_being_a_member():
    assert not Application.objects.visible_to(AnonymousUser()).exists()


def _outcome(response: Any) -> int | str:
    if response.status_code == 302 and response.url.startswith(reverse("account_login")):
        return LOGIN
    return int(response.status_code)
