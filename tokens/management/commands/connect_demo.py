"""Give the demo a few connections, each through the real flow and the sandbox's consent."""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from portal.audit import SYSTEM
from providers.models import ProviderConfig
from providers.sandbox.client import SandboxClient
from tokens.confirm import confirm
from tokens.connect import (
    Callback,
    choose_sites,
    new_browser_secret,
    open_session,
    receive,
    start,
    waiting_exchange,
)
from tokens.models import Confirmation
from tokens.models.connect import SessionStatus

# End user, the account at the sandbox, and whether a member has confirmed it already.
PEOPLE = [
    ("user-1001", "jo", True),
    ("user-1002", "sam", True),
    ("user-1003", "lee", True),
    ("user-1004", "jo", False),
]


class Command(BaseCommand):
    """Connect the demo's end users. Doing it again changes nothing."""

    help = "Make the demo's connections through the running sandbox. Only where DEMO is on."

    def handle(self, *args: Any, **options: Any) -> None:
        """Connect whoever is not connected yet."""
        if not (settings.DEMO and settings.SANDBOX_URL):
            raise CommandError("This needs DEMO and SANDBOX_URL (see `make run`).")
        config = ProviderConfig.objects.select_related("application").get(
            application__slug="acme-wiki", provider_id="atlassian"
        )
        if config.grants.exists():
            return
        for end_user, account, is_confirmed in PEOPLE:
            self._connect(config, end_user, account, is_confirmed=is_confirmed)

    def _connect(self, config: ProviderConfig, end_user: str, account: str, *, is_confirmed: bool) -> None:
        session, _ = open_session(config, end_user=end_user, confirmation=Confirmation.MEMBER, actor=SYSTEM)
        browser = new_browser_secret()
        address = start(session, browser=browser, user=None, actor=SYSTEM)
        back = urlsplit(SandboxClient(settings.SANDBOX_URL).approve(address, account=account))
        callback = Callback(
            slug=config.application.slug,
            provider_id=config.provider_id,
            params=dict(parse_qsl(back.query)),
            browser=browser,
            user_id=None,
        )
        session = receive(callback, actor=SYSTEM)
        if session.status == SessionStatus.CHOOSING:
            waiting = waiting_exchange(session)
            sites = [site.cloud_id for site in waiting.sites] if waiting else []
            session = choose_sites(session, sites[: 1 + secrets.randbelow(len(sites))], actor=SYSTEM)
        if is_confirmed and session.grant:
            confirm(session.grant, actor=SYSTEM)
