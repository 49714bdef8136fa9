"""What a catalog file says about a provider, as frozen values."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class ClientAuth(enum.StrEnum):
    """How the client shows who it is at the token endpoint (RFC 6749 section 2.3.1)."""

    POST = "post"
    BASIC = "basic"


class BodyFormat(enum.StrEnum):
    """How the token endpoint wants its body."""

    FORM = "form"
    JSON = "json"


class Pkce(enum.StrEnum):
    """Whether a code challenge is sent (RFC 7636). Always S256."""

    SEND = "send"
    REQUIRED = "required"
    NEVER = "never"


class Rotation(enum.StrEnum):
    """What happens to a refresh token when it is used (reference: the catalog's provider pages)."""

    NONE = "none"  # There is no refresh token.
    STATIC = "static"  # It stays.
    KEEP_OLD = "keep-old"  # A new one each time, the old one stays valid.
    GRACE = "grace"  # A new one each time, the old one works for `leeway`.
    STRICT = "strict"  # A new one each time, the old one is dead at once.


# No provider may be given longer for one answer: a claim on a grant outlives the call that it is for.
LONGEST_READ = timedelta(seconds=60)

# What a callback's `error` can mean here; each has a page of its own.
CALLBACK_FAILURES = ("cancelled", "redirect_uri_not_registered", "scope_not_enabled", "provider_down")


class Outcome(enum.StrEnum):
    """What a token request came to. Every answer is exactly one of these."""

    OK = "ok"
    GRANT_DEAD = "grant_dead"  # The code or refresh token is refused for good: a person must consent again.
    CLIENT_BAD = "client_bad"  # Our client ID or secret is refused: the admin must act, no grant is touched.
    NOT_SENT = "not_sent"  # The request surely did not arrive (DNS, refused, TLS).
    THROTTLED = "throttled"  # 429: come back later.
    AMBIGUOUS = "ambiguous"  # It may have been carried out: time-out, reset, 5xx, unreadable answer.


@dataclass(frozen=True)
class ErrorRule:
    """One row of a provider's error map: if all that is given matches, it is `outcome`."""

    outcome: Outcome
    error: str | None = None
    status: int | None = None
    grant_type: str | None = None
    cause: str = ""

    def matches(self, *, error: str, status: int, grant_type: str) -> bool:
        """Tell whether this row applies to an error answer.

        A row without a status says nothing of 429, 3xx and 5xx: a provider in trouble may send any error code, and
        a grant must not end for it.
        """
        is_verdict = 200 <= status < 300 or (400 <= status < 500 and status != 429)
        is_status = status == self.status if self.status else is_verdict
        return is_status and self.error in (None, error) and self.grant_type in (None, grant_type)


@dataclass(frozen=True)
class Scope:
    """One permission as the catalog describes it."""

    name: str
    label: str  # For admins: what it opens.
    plain: str  # For end users: completes "… will be able to".
    is_required: bool = False
    is_default: bool = False
    is_more: bool = False  # Folded away under "More".
    reason: str = ""  # Why a required one can't be switched off.
    needs_console: bool = True  # Whether the provider's console lists it.


@dataclass(frozen=True)
class ScopeGroup:
    """Scopes of one product."""

    id: str
    name: str
    console_name: str
    scopes: tuple[Scope, ...]
    is_product: bool = True

    @property
    def is_all_more(self) -> bool:
        """Tell whether all its scopes are folded away."""
        return all(scope.is_more for scope in self.scopes)


@dataclass(frozen=True)
class Step:
    """One step in the provider's console. `shows` names what to copy: redirect_uri, scopes or nothing."""

    title: str
    text: str
    shows: str = ""
    url: str = ""


@dataclass(frozen=True)
class RefreshPolicy:
    """How access is kept fresh."""

    rotation: Rotation
    leeway: timedelta = timedelta(0)  # How long a spent refresh token may be used again.
    ahead: timedelta = timedelta(minutes=5)  # How long before expiry a refresh is due, at most.
    # An old access token dies this long after a refresh, if sooner than its expiry.
    companion: timedelta | None = None
    idle_limit: timedelta | None = None
    absolute_limit: timedelta | None = None
    default_lifetime: timedelta = timedelta(hours=1)  # When the answer has no usable expires_in.

    @property
    def touched_after(self) -> tuple[int, int] | None:
        """Return after how many days, at least and at most, an idle grant is refreshed; None if it never need be."""
        if self.idle_limit is None or self.rotation is Rotation.NONE:
            return None
        return self.idle_limit.days // 6, self.idle_limit.days // 3

    @property
    def is_strict(self) -> bool:
        """Tell whether a refresh token that is used twice may end the grant, however soon."""
        return self.rotation is Rotation.STRICT or (self.rotation is Rotation.GRACE and not self.leeway)


@dataclass(frozen=True)
class CallLimits:
    """How hard one configuration may call the token endpoint, all workers and readers together."""

    parallel: int = 250
    per_second: int = 0  # 0: no limit.


@dataclass(frozen=True)
class Endpoint:
    """An address with its method and fixed headers."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ProfileFields:
    """Where the userinfo answer says who connected: names of fields."""

    id: str
    name: str
    email: str


@dataclass(frozen=True)
class ProxyRules:
    """What the proxy must know of a provider's API beside its addresses."""

    # Headers that callers need beside the usual ones, in small letters.
    request_headers: frozenset[str] = frozenset()
    response_headers: frozenset[str] = frozenset()
    # What stands in a 401 that a new token would not mend.
    not_expired: str = ""
    # Statuses that can mean an expired token beside 401; believed only when the stored one has run out.
    expired_statuses: frozenset[int] = frozenset()


_PKCE_FACTS = {
    Pkce.SEND: "Supported: S256 is always sent.",
    Pkce.REQUIRED: "Required: S256 is always sent.",
    Pkce.NEVER: "Not supported.",
}


@dataclass(frozen=True)
class ProviderSpec:
    """One provider, read from one catalog file."""

    id: str
    name: str
    category: str
    tagline: str
    accent: str
    authorize_url: str
    token_url: str
    issuer: str
    refresh: RefreshPolicy
    scope_groups: tuple[ScopeGroup, ...]
    steps: tuple[Step, ...]
    limits: CallLimits = CallLimits()
    refresh_url: str = ""
    iss: str = "if-present"  # "required": a callback without RFC 9207's `iss` is refused.
    client_auth: ClientAuth = ClientAuth.POST
    body_format: BodyFormat = BodyFormat.FORM
    pkce: Pkce = Pkce.SEND
    scope_separator: str = " "  # "": the provider takes no scopes.
    scope_param: str = "scope"
    authorize_params: Mapping[str, str] = field(default_factory=dict)
    token_params: Mapping[str, str] = field(default_factory=dict)
    token_type: str = "bearer"  # noqa: S105 - In small letters; Slack's user tokens are of type "user".
    answer_in: str = ""  # The object in the answer that holds the tokens, such as Slack's "authed_user".
    error_map: tuple[ErrorRule, ...] = ()
    callback_errors: Mapping[str, str] = field(default_factory=dict)
    read_timeout: timedelta = timedelta(seconds=20)
    userinfo: Endpoint | None = None
    profile: ProfileFields | None = None
    userinfo_scope: str = ""
    sites: Endpoint | None = None
    sites_reader: str = ""  # Name of a function in providers/sites.py.
    # By product: where its calls go; {cloud_id} stands for the site.
    site_base_urls: Mapping[str, str] = field(default_factory=dict)
    proxy: ProxyRules = field(default_factory=ProxyRules)
    revoke: Endpoint | None = None
    revoke_text: str = ""  # What people can do themselves, said truthfully to those whose account it is.
    revoke_text_for_members: str = ""  # The same for members, who read about the account of somebody else.
    revoke_page: str = ""
    docs_url: str = ""
    notes: tuple[str, ...] = ()
    forbidden_scopes: tuple[str, ...] = ()
    scope_warning_at: int = 0
    facts: Mapping[str, str] = field(default_factory=dict)  # Wording of the property table.
    credentials_place: str = ""  # Where the console shows client ID and secret, as a sentence.
    client_id_pattern: str = ""
    client_id_words: str = ""  # The pattern for people: "32 letters and digits".
    secret_prefix: str = ""
    has_sandbox: bool = False
    source: str = ""
    checked_on: str = ""

    @property
    def scopes(self) -> dict[str, Scope]:
        """Return all scopes by name, in the catalog's order."""
        return {scope.name: scope for group in self.scope_groups for scope in group.scopes}

    @property
    def pkce_fact(self) -> str:
        """Return what the property table says of PKCE."""
        return self.facts.get("pkce") or _PKCE_FACTS[self.pkce]

    @property
    def refresh_fact(self) -> str:
        """Return what the property table says of token refresh."""
        no_refresh = "None: access ends when the access token does."
        automatic = "Automatic, before the access token runs out."
        return self.facts.get("refresh") or (
            no_refresh if self.refresh.rotation is Rotation.NONE else automatic
        )

    @property
    def required_scopes(self) -> list[str]:
        """Return the names of scopes that are always asked for."""
        return [name for name, scope in self.scopes.items() if scope.is_required]

    @property
    def token_endpoint_for_refresh(self) -> str:
        """Return where refreshes go: the token endpoint, unless the provider keeps another one."""
        return self.refresh_url or self.token_url
