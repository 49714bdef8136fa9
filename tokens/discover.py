"""Ask the provider who connected and which sites the token reaches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from providers import http, oauth
from providers.oauth import Answer
from providers.sites import SITE_READERS, UnreadableSitesError
from tokens.exchanged import Account

if TYPE_CHECKING:
    from collections.abc import Collection

    from providers.oauth import TokenSet
    from providers.sites import SiteInfo
    from providers.spec import Endpoint, ProviderSpec

# Reading is harmless to repeat, and a person is waiting: twice, then the page says so.
TRIES = 2


class DiscoveryError(Exception):
    """Account or sites could not be read; `failure` is one of the codes of tokens/failures.py."""

    def __init__(self, failure: str) -> None:
        self.failure = failure
        super().__init__(failure)


def discover(
    spec: ProviderSpec, tokens: TokenSet, *, scopes: Collection[str]
) -> tuple[Account, tuple[SiteInfo, ...]]:
    """Return the account and its sites, merged and sorted. Raises DiscoveryError."""
    account = _account(spec, tokens, scopes)
    if spec.sites is None:
        return account, ()
    try:
        return account, SITE_READERS[spec.sites_reader](_get(spec.sites, tokens))
    except UnreadableSitesError:
        raise DiscoveryError("provider_down") from None


def _account(spec: ProviderSpec, tokens: TokenSet, scopes: Collection[str]) -> Account:
    if spec.userinfo is None or spec.profile is None:
        # Nothing tells accounts apart: each consent is a connection of its own end user.
        return Account(id="only")
    if spec.userinfo_scope and spec.userinfo_scope not in scopes:
        raise DiscoveryError("profile_refused")
    body = _get(spec.userinfo, tokens, refused="profile_refused", unreadable="unreadable_profile")
    found = (
        {name: body.get(name) for name in (spec.profile.id, spec.profile.name, spec.profile.email)}
        if isinstance(body, dict)
        else {}
    )
    account_id = found.get(spec.profile.id)
    if isinstance(account_id, int) and not isinstance(account_id, bool):
        account_id = str(account_id)
    # Opaque, and never mended: two accounts must not become one.
    if not isinstance(account_id, str) or not 0 < len(account_id) <= 200 or not account_id.isprintable():
        raise DiscoveryError("unreadable_profile")
    return Account(
        id=account_id,
        name=_line(found.get(spec.profile.name), 200),
        email=_line(found.get(spec.profile.email), 254),
    )


def _line(value: Any, longest: int) -> str:
    """Return one line of printable text: PostgreSQL stores no NUL, a page no line breaks."""
    if not isinstance(value, str):
        return ""
    return "".join(letter for letter in value if letter.isprintable())[:longest].strip()


def _get(
    endpoint: Endpoint,
    tokens: TokenSet,
    *,
    refused: str = "provider_down",
    unreadable: str = "provider_down",
) -> Any:
    failure = "provider_down"
    for _ in range(TRIES):
        answer = http.send_blocking(oauth.bearer_request(endpoint, tokens.access_token))
        if isinstance(answer, Answer) and answer.status in (401, 403):
            raise DiscoveryError(refused)
        if isinstance(answer, Answer) and answer.status == 200:
            try:
                return json.loads(answer.body)
            except (ValueError, RecursionError):
                pass
        is_down = not isinstance(answer, Answer) or answer.status == 429 or answer.status >= 500
        failure = "provider_down" if is_down else unreadable
    raise DiscoveryError(failure)
