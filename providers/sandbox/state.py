"""Everything that the sandbox remembers, in memory: clients, consents, grants, chains of tokens, the clock."""

import hmac
import time
from dataclasses import dataclass, field
from secrets import token_hex

from providers.sandbox.demo import DEMO_APPS
from providers.sandbox.ledger import Ledger
from providers.sandbox.people import Site, account_named
from providers.sandbox.switches import Switches
from providers.sandbox.tokens import digest

ATLASSIAN = "atlassian"
GENERIC = "generic"

# This secret is refused for every client, so that a demo can show what a wrong one looks like.
WRONG_SECRET = "wrong"  # noqa: S105


@dataclass(slots=True)
class Client:
    """An OAuth app. Its secret is kept as a digest; an empty list of redirect URIs or scopes means any."""

    client_id: str
    name: str = ""
    secret_digest: str = ""
    redirect_uris: list[str] = field(default_factory=list)
    scopes: list[str] = field(default_factory=list)
    # False: only its owner could consent, which in the sandbox is nobody.
    shared: bool = True
    # Not registered by anyone: learnt from the first call that named it.
    is_pinned: bool = False

    def accepts(self, secret: str) -> bool:
        """Check the secret; a client that has none yet is given this one for good."""
        if not secret or secret == WRONG_SECRET:
            return False
        if not self.secret_digest:
            self.secret_digest = digest(secret)
        return hmac.compare_digest(self.secret_digest, digest(secret))


@dataclass(slots=True)
class Grant:
    """What one account gave one client: the unit in which access is given and taken back."""

    id: str
    issuer: str
    client_id: str
    account: str
    scopes: list[str]
    # Cloud ids.
    sites: list[str]
    consented_at: float
    is_revoked: bool = False

    def reachable_sites(self) -> list[Site]:
        return [site for site in account_named(self.account).sites if site.cloud_id in self.sites]


@dataclass(slots=True)
class Family:
    """One chain of refresh tokens: what a single consent led to."""

    id: str
    grant_id: str
    started_at: float
    # Why the chain is dead; empty while it lives.
    dead: str = ""


@dataclass(slots=True)
class RefreshToken:
    family_id: str
    issued_at: float
    # When it was first spent; None while it is the newest of its line.
    spent_at: float | None = None
    # Digests of the access tokens that were issued together with it.
    companions: list[str] = field(default_factory=list)


@dataclass(slots=True)
class AccessToken:
    family_id: str
    scopes: list[str]
    expires_at: float


@dataclass(slots=True)
class AuthorizeRequest:
    """A checked authorize request, waiting for the person's answer on the consent page."""

    issuer: str
    client_id: str
    redirect_uri: str
    scopes: list[str]
    state: str | None
    code_challenge: str
    created_at: float


@dataclass(slots=True)
class Code:
    """An authorization code, by its digest; used once."""

    request: AuthorizeRequest
    grant_id: str
    expires_at: float
    is_used: bool = False


class State:
    """One sandbox."""

    def __init__(self, switches: Switches | None = None) -> None:
        self.initial_switches = switches or Switches()
        # Grows with every change that is worth keeping across a restart; a reset is one.
        self.version = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything and go back to the switches of the start."""
        self.switches = self.initial_switches
        self.clock_offset = 0.0
        self.ledger = Ledger()
        self.clients: dict[str, Client] = {}
        for app in DEMO_APPS:
            self.register(Client(app.client_id, name=app.name, secret_digest=digest(app.client_secret)))
        self.pending: dict[str, AuthorizeRequest] = {}
        self.codes: dict[str, Code] = {}
        self.grants: dict[str, Grant] = {}
        # The living grant of each (issuer, client id, account).
        self.living: dict[tuple[str, str, str], str] = {}
        self.families: dict[str, Family] = {}
        self.refresh_tokens: dict[str, RefreshToken] = {}
        self.access_tokens: dict[str, AccessToken] = {}
        # Things that the product APIs were asked to create, by cloud id.
        self.issues: dict[str, list[dict[str, object]]] = {}
        self.contents: dict[str, list[dict[str, object]]] = {}
        # Product calls in the current minute, by (client id, cloud id).
        self.quota: dict[tuple[str, str], tuple[int, int]] = {}
        self.version += 1

    def now(self) -> float:
        """Return seconds since 1970 by the sandbox's clock."""
        return time.time() + self.clock_offset

    def register(self, client: Client) -> None:
        self.clients[client.client_id] = client

    def client(self, client_id: str) -> Client | None:
        """Return the client; unless only registered ones count, any id is a client from its first use on."""
        client = self.clients.get(client_id)
        if client is not None and (self.switches.clients == "any" or not client.is_pinned):
            return client
        if client is not None or not client_id or self.switches.clients == "registered":
            return None
        client = Client(client_id, name=f"App {client_id[:12]}", is_pinned=True)
        self.register(client)
        return client

    def give(self, request: AuthorizeRequest, *, account: str, scopes: list[str], sites: list[str]) -> Grant:
        """Record a consent. The new scopes replace the old ones; sites are added to those given before."""
        key = (request.issuer, request.client_id, account)
        grant = self.grants.get(self.living.get(key, ""))
        self.version += 1
        if grant is None:
            grant = Grant(token_hex(6), request.issuer, request.client_id, account, scopes, sites, self.now())
            self.grants[grant.id] = grant
            self.living[key] = grant.id
            return grant
        grant.scopes = scopes
        grant.sites += [site for site in sites if site not in grant.sites]
        grant.consented_at = self.now()
        if self.switches.consent_kills_older_chain:
            for family in self.families_of(grant):
                family.dead = family.dead or "replaced by a new consent"
        return grant

    def families_of(self, grant: Grant) -> list[Family]:
        return [family for family in self.families.values() if family.grant_id == grant.id]

    def take_back(self, grant: Grant) -> None:
        """End a grant with all its chains and tokens, as when a person removes the app."""
        self.version += 1
        grant.is_revoked = True
        self.living.pop((grant.issuer, grant.client_id, grant.account), None)

    def grant_of(self, family_id: str) -> Grant:
        return self.grants[self.families[family_id].grant_id]
