"""What an exchange brought, as a value that can wait, sealed, for the choice of sites."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from providers.oauth import TokenSet
from providers.sites import SiteInfo

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True)
class Account:
    """Who connected, as the provider says. `id` is opaque."""

    id: str
    name: str = ""
    email: str = ""


@dataclass(frozen=True)
class Exchanged:
    """Tokens, account and sites. `received_at` is the database's time just before the exchange was sent."""

    tokens: TokenSet
    account: Account
    sites: tuple[SiteInfo, ...]
    requested: tuple[str, ...]
    received_at: dt.datetime

    def dumps(self) -> str:
        """Write it as JSON. Holds tokens: only for a sealed column."""
        value = asdict(self)
        value["received_at"] = self.received_at.isoformat()
        lifetime = self.tokens.lifetime
        value["tokens"]["lifetime"] = None if lifetime is None else lifetime.total_seconds()
        return json.dumps(value)

    @classmethod
    def loads(cls, text: str) -> Self:
        """Read what `dumps` wrote."""
        value = json.loads(text)
        tokens = value["tokens"]
        lifetime = tokens["lifetime"]
        return cls(
            tokens=TokenSet(
                access_token=tokens["access_token"],
                refresh_token=tokens["refresh_token"],
                lifetime=None if lifetime is None else dt.timedelta(seconds=lifetime),
                scopes=None if tokens["scopes"] is None else tuple(tokens["scopes"]),
            ),
            account=Account(**value["account"]),
            sites=tuple(
                SiteInfo(**{**site, "products": tuple(site["products"]), "scopes": tuple(site["scopes"])})
                for site in value["sites"]
            ),
            requested=tuple(value["requested"]),
            received_at=dt.datetime.fromisoformat(value["received_at"]),
        )
