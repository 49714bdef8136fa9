"""Take the README's pictures: `make pictures`.

Not named test_…, so it runs only when it is asked for. Look at what it made before committing it.
"""

from __future__ import annotations

import datetime as dt
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.urls import reverse
from django.utils import timezone
from PIL import Image

from portal.audit import SYSTEM
from portal.models import User
from providers.spec import Outcome
from tests.factories import GrantFactory, MembershipFactory, ProviderConfigFactory, UserFactory, database_now
from tokens import spans
from tokens.connect import open_session
from tokens.models import Confirmation, Grant, RefreshAttempt, RefreshCount, Trigger

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from providers.models import ProviderConfig
    from tests.browser.conftest import SignIn
    from tests.conftest import Cast

FOLDER = Path(__file__).parents[2] / "docs" / "images"
WIDTH = 1200
COLOURS = 256

SCOPES = [
    "read:me",
    "offline_access",
    "read:jira-work",
    "write:jira-work",
    "read:jira-user",
    "read:confluence-content.all",
]
# End user, label, account, sites, and what is special about the connection.
PEOPLE: list[tuple[str, str, str, list[str], dict[str, Any]]] = [
    ("user-2207", "", "Priya Nair", ["acme", "acme-labs"], {}),
    ("user-1894", "Sales, EMEA", "Tomás Ortega", ["acme"], {}),
    ("user-2210", "", "Mei Tanaka", ["northwind"], {"pending": True}),
    ("user-1731", "", "Lena Fischer", ["globex", "initech"], {}),
    ("user-1702", "Support desk", "Sam Roe", ["acme"], {"needs_reconnect": True}),
    ("user-1650", "", "Ade Okafor", ["initech"], {}),
    ("user-1588", "", "Jonas Berg", ["acme-labs"], {}),
    ("user-1504", "", "Clara Rossi", ["acme"], {}),
]


@pytest.fixture
def owner(page: Page, cast: Cast, sign_in: SignIn, settings: Any) -> Page:
    settings.PUBLIC_URL = "https://portal.acme.example"
    User.objects.filter(pk=cast.owner.pk).update(name="Alex Doe", email="alex@acme.example")
    sign_in(page, User.objects.get(pk=cast.owner.pk))
    return page


@pytest.fixture
def config(cast: Cast) -> ProviderConfig:
    return ProviderConfigFactory.create(
        application=cast.application,
        client_id="kR7v2QmXp0bT4yNc9LsWd3Ha8ZfJ6uGe",
        scopes=SCOPES,
        secret_set_by=cast.owner,
        created_by=cast.owner,
    )


def take(page: Page, name: str, *, height: int, width: int = WIDTH) -> None:
    """Save the top of the page, with few colours so that it is light."""
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    FOLDER.mkdir(parents=True, exist_ok=True)
    reduced = picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    reduced.save(FOLDER / f"{name}.png", optimize=True)


def connect_everybody(config: ProviderConfig) -> None:
    now = timezone.now()
    for number, (end_user, label, name, sites, special) in enumerate(reversed(PEOPLE)):
        first, last = name.lower().split()
        grant = GrantFactory.create(
            provider_config=config,
            end_user=end_user,
            label=label,
            account_name=name,
            account_email=f"{first}@{sites[0]}.example".replace("á", "a"),
            account_id=f"712020:5f0a{number}c1e-77b2-4d0e-9a51-{last[:4].encode().hex():0<12}",
            site_names=sites,
            **special,
        )
        age = dt.timedelta(days=9 - number, hours=3 * number, minutes=7)
        Grant.objects.filter(pk=grant.pk).update(
            connected_at=now - age,
            consented_at=now - age,
            confirmed_at=None if "pending" in special else now - age,
            used_at=None if special else now - dt.timedelta(minutes=4 * number + 1),
        )


def refresh_all_day(config: ProviderConfig) -> None:
    counts = {
        "ok": lambda number: 26 + number * 7 % 11,
        "ambiguous": lambda number: (7 - number % 3) * (30 < number < 34),
    }
    RefreshCount.objects.bulk_create(
        RefreshCount(
            provider_config=config,
            application=config.application,
            starts_at=start,
            outcome=outcome,
            count=count(number),
        )
        for number, start in enumerate(spans.DAY.starts_of(database_now()))
        for outcome, count in counts.items()
        if count(number)
    )


def test_add_provider(owner: Page) -> None:
    owner.goto(reverse("provider-add", args=["acme-tasks", "atlassian"]))
    owner.get_by_label("Client ID", exact=True).fill("kR7v2QmXp0bT4yNc9LsWd3Ha8ZfJ6uGe")
    owner.get_by_label("Client secret", exact=True).fill("made up for the picture")
    for scope in SCOPES[2:]:
        owner.get_by_label(scope).check()

    take(owner, "add-provider", height=1010)


def test_overview(owner: Page, config: ProviderConfig) -> None:
    connect_everybody(config)
    refresh_all_day(config)

    owner.goto(reverse("application-overview", args=["acme-tasks"]))

    take(owner, "overview", height=1190)


def test_connect(page: Page, config: ProviderConfig) -> None:
    _, link = open_session(config, end_user="user-2207", confirmation=Confirmation.MEMBER, actor=SYSTEM)

    page.goto(reverse("connect-page", args=[link]))

    take(page, "connect", height=700)


def test_connection(owner: Page, config: ProviderConfig) -> None:
    connect_everybody(config)
    grant = Grant.objects.get(end_user="user-2207")
    Grant.objects.filter(pk=grant.pk).update(gen=87)
    grant.sites.filter(name="acme-labs").update(is_chosen=False)
    for epoch, outcome in enumerate(["ok"] * 4 + [Outcome.AMBIGUOUS] + ["ok"] * 3, start=1):
        attempt = RefreshAttempt.objects.create(
            grant=grant,
            provider_config=config,
            gen=epoch,
            epoch=epoch,
            trigger=Trigger.BEAT,
            outcome=outcome,
            cause="Atlassian did not answer in time" if outcome == Outcome.AMBIGUOUS else "",
        )
        claimed = timezone.now() - dt.timedelta(minutes=51 * (8 - epoch) + 9)
        RefreshAttempt.objects.filter(pk=attempt.pk).update(claimed_at=claimed)

    owner.goto(grant.get_absolute_url())

    take(owner, "connection", height=860)


def test_admin(owner: Page, config: ProviderConfig) -> None:
    connect_everybody(config)
    MembershipFactory(application=config.application, user=UserFactory(name="Kim"))
    User.objects.filter(email="alex@acme.example").update(is_staff=True, is_superuser=True)

    owner.goto(f"{reverse('admin:tokens_grant_changelist')}?q=acme")

    # Its list has many columns.
    take(owner, "admin", height=700, width=1440)
