"""Connecting as a browser does it: the link, the button, the sandbox's consent page, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from django.test import Client
from django.urls import reverse

from portal.audit import SYSTEM
from tests.factories import CLIENT_SECRET, ApplicationFactory, ProviderConfigFactory
from tokens.connect import open_session
from tokens.models import Confirmation, ConnectSession, Grant

if TYPE_CHECKING:
    from providers.models import ProviderConfig
    from providers.sandbox.thread import SandboxThread

RETURN_ORIGIN = "https://app.acme.example"
RETURN_URL = f"{RETURN_ORIGIN}/settings?tab=apps#jira"


def configured(sandbox: SandboxThread, **fields: Any) -> ProviderConfig:
    """Return Atlassian, configured for an application that may be returned to."""
    if "application" not in fields:
        fields["application"] = ApplicationFactory(name="Acme Tasks", return_origins=[RETURN_ORIGIN])
    config = ProviderConfigFactory.create(**fields)
    sandbox.register_client(config.client_id, CLIENT_SECRET, redirect_uris=[config.redirect_uri])
    return config


def opened(
    config: ProviderConfig,
    *,
    end_user: str = "user-1",
    confirmation: Confirmation = Confirmation.MEMBER,
    **more: Any,
) -> tuple[ConnectSession, str]:
    """Open a connect session and return it with its link's token."""
    if confirmation == Confirmation.CODE:
        more.setdefault("return_url", RETURN_URL)
    return open_session(config, end_user=end_user, confirmation=confirmation, actor=SYSTEM, **more)


def path_of(url: str) -> str:
    """Return an address without its host, as the test client wants it."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def query_of(url: str) -> dict[str, str]:
    """Return the parameters of an address, each once."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query, keep_blank_values=True).items()}


@dataclass
class Browser:
    """One browser with its own cookies, and the person in front of it."""

    sandbox: SandboxThread
    client: Client = field(default_factory=Client)
    account: str = "sam"  # sam has one site, jo has two, lee three, kim none.

    def open(self, token: str) -> Any:
        """Open a connect link."""
        return self.client.get(reverse("connect-page", args=[token]))

    def start(self, token: str) -> str:
        """Press the button; return where it leads."""
        response = self.client.post(reverse("connect-start", args=[token]))
        assert response.status_code == 303, response.content.decode()
        return str(response["Location"])

    def consent(self, authorize_url: str, **answer: Any) -> str:
        """Answer the consent page; return the callback's address."""
        return self.sandbox.approve(authorize_url, account=answer.pop("account", self.account), **answer)

    def callback(self, url: str) -> Any:
        """Come back to the portal."""
        return self.client.get(path_of(url))

    def go(self, token: str, **answer: Any) -> Any:
        """Press the button, consent, and come back."""
        return self.callback(self.consent(self.start(token), **answer))

    def follow(self, response: Any) -> Any:
        """Go where a redirect leads."""
        assert response.status_code == 303, response.content.decode()
        return self.client.get(response["Location"])

    def arrive(self, token: str, **answer: Any) -> Any:
        """Do all of it, and see the page at the end."""
        return self.follow(self.go(token, **answer))


def exchanges(sandbox: SandboxThread) -> list[dict[str, Any]]:
    """Return the calls in which a code was brought to the provider."""
    return [call for call in sandbox.ledger("/oauth/token") if call["grant_type"] == "authorization_code"]


def only_grant() -> Grant:
    """Return the only grant there is."""
    return Grant.objects.select_related("provider_config__application").get()
