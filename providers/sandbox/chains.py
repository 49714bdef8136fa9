"""Chains of tokens: what a code or a refresh token is worth, and what it is turned into."""

from dataclasses import dataclass
from secrets import token_hex

from providers.sandbox.ledger import Call
from providers.sandbox.people import account_named
from providers.sandbox.scopes import OFFLINE
from providers.sandbox.state import ATLASSIAN, GENERIC, AccessToken, Family, Grant, RefreshToken, State
from providers.sandbox.tokens import digest, new_token

DAY = 86_400
REUSE = "reuse after the leeway"
UNKNOWN = "unknown refresh token"
TAKEN_BACK = "the person removed the app"


@dataclass(frozen=True, slots=True)
class Pair:
    """Freshly issued tokens, in clear: the only moment at which the sandbox has them."""

    access_token: str
    refresh_token: str | None
    scopes: list[str]


class DeadTokenError(Exception):
    """A refresh token that is worth nothing; the text says why and goes into the ledger."""

    def __init__(self, reason: str, *, is_unknown: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        # Unknown or spent, as opposed to expired or taken back: Atlassian seems to tell these apart.
        self.is_unknown = is_unknown


def start(state: State, grant: Grant, call: Call, *, issuer_url: str, ttl: float | None = None) -> Pair:
    """Begin a new chain for a grant; ttl is the life of the access token in seconds, if not the switch's."""
    family = Family(token_hex(6), grant.id, state.now())
    state.families[family.id] = family
    return _issue(state, grant, family, call, issuer_url=issuer_url, ttl=ttl)


def renew(state: State, presented: str, *, client_id: str, call: Call, issuer_url: str) -> Pair:
    """Spend a refresh token and return the next pair. Raises DeadTokenError.

    The same token may come back within the leeway after its first use, and gets a further valid pair. Later it is
    taken for stolen, and the whole chain dies with it.
    """
    token, family, grant = _find(state, presented, ATLASSIAN, client_id, call)
    now, switches = state.now(), state.switches
    if refusal := _too_late(state, token, family):
        if refusal == REUSE and switches.kills_chain:
            kill(state, family, REUSE)
            call.committed = True
        raise DeadTokenError(refusal, is_unknown=refusal == REUSE)

    if not switches.rotate or switches.omit_refresh_token_on_refresh:
        # The old refresh token stays good; an answer without any was seen in the field.
        token.issued_at = now
        pair = _issue(state, grant, family, call, issuer_url=issuer_url, with_refresh_token=False)
        same = None if switches.omit_refresh_token_on_refresh else presented
        return Pair(pair.access_token, same, pair.scopes)
    if token.spent_at is None:
        token.spent_at = now
        _shorten_companions(state, token, now)
    return _issue(state, grant, family, call, issuer_url=issuer_url)


def refusal_of(state: State, token_digest: str) -> str:
    """Return why a refresh token would be refused if it came now, or "" if it would be honoured. Changes nothing."""
    token = state.refresh_tokens.get(token_digest)
    if token is None:
        return UNKNOWN
    family = state.families[token.family_id]
    if state.grants[family.grant_id].is_revoked:
        return TAKEN_BACK
    return family.dead or _too_late(state, token, family)


def renew_static(
    state: State, presented: str, *, client_id: str, call: Call, issuer_url: str, ttl: float
) -> Pair:
    """Return a new access token for a refresh token of the generic provider, which never changes or ends."""
    _, family, grant = _find(state, presented, GENERIC, client_id, call)
    return _issue(state, grant, family, call, issuer_url=issuer_url, ttl=ttl, with_refresh_token=False)


def kill(state: State, family: Family, reason: str) -> None:
    """End a chain: its refresh tokens and the access tokens that came with them."""
    family.dead = family.dead or reason
    state.version += 1


def living_access(state: State, presented: str) -> tuple[AccessToken, Grant] | None:
    """Return an access token that is good now, with its grant, or None."""
    token = state.access_tokens.get(digest(presented))
    if token is None or token.expires_at <= state.now():
        return None
    family = state.families[token.family_id]
    grant = state.grants[family.grant_id]
    if family.dead or grant.is_revoked:
        return None
    return token, grant


def _find(
    state: State, presented: str, issuer: str, client_id: str, call: Call
) -> tuple[RefreshToken, Family, Grant]:
    """Return a refresh token with its chain and grant if these live. Raises DeadTokenError."""
    call.presented = digest(presented)
    token = state.refresh_tokens.get(call.presented)
    if token is None:
        raise DeadTokenError(UNKNOWN, is_unknown=True)
    family = state.families[token.family_id]
    grant = state.grants[family.grant_id]
    call.family, call.account = family.id, grant.account
    if grant.client_id != client_id or grant.issuer != issuer:
        raise DeadTokenError("issued to another client", is_unknown=True)
    if grant.is_revoked:
        raise DeadTokenError(TAKEN_BACK, is_unknown=False)
    if family.dead:
        raise DeadTokenError(family.dead, is_unknown=family.dead == REUSE)
    return token, family, grant


def _too_late(state: State, token: RefreshToken, family: Family) -> str:
    """Return in words what time has done to a refresh token, or ""."""
    now, switches = state.now(), state.switches
    if token.spent_at is not None and (switches.strict or now - token.spent_at > switches.leeway):
        return REUSE
    if now - token.issued_at > switches.inactivity_days * DAY:
        return "not used for too long"
    if switches.absolute_lifetime_days and now - family.started_at > switches.absolute_lifetime_days * DAY:
        return "too long since the consent"
    return ""


def _issue(
    state: State,
    grant: Grant,
    family: Family,
    call: Call,
    *,
    issuer_url: str,
    ttl: float | None = None,
    with_refresh_token: bool = True,
) -> Pair:
    now, switches = state.now(), state.switches
    subject = account_named(grant.account).account_id
    expires_at = now + (switches.access_ttl if ttl is None else ttl)
    access = new_token(
        "access",
        subject=subject,
        audience=grant.client_id,
        issuer=issuer_url,
        at=now,
        expires_at=expires_at,
        size=switches.token_size,
    )
    access_digest = digest(access)
    state.access_tokens[access_digest] = AccessToken(family.id, grant.scopes, expires_at)
    refresh = None
    if with_refresh_token and (OFFLINE in grant.scopes or grant.issuer == GENERIC):
        refresh = new_token(
            "refresh",
            subject=subject,
            audience=grant.client_id,
            issuer=issuer_url,
            at=now,
            expires_at=now + switches.inactivity_days * DAY,
            size=switches.token_size * 3 // 4,
        )
        refresh_digest = digest(refresh)
        state.refresh_tokens[refresh_digest] = RefreshToken(family.id, now, companions=[access_digest])
        call.issued_refresh = refresh_digest
    call.issued_access, call.family, call.account, call.committed = (
        access_digest,
        family.id,
        grant.account,
        True,
    )
    state.version += 1
    return Pair(access, refresh, grant.scopes)


def _shorten_companions(state: State, token: RefreshToken, now: float) -> None:
    """Let the access tokens of a spent refresh token die soon, whatever their own expiry says."""
    latest = now + state.switches.access_token_dies_after_refresh
    for companion in token.companions:
        access = state.access_tokens.get(companion)
        if access is not None:
            access.expires_at = min(access.expires_at, latest)
