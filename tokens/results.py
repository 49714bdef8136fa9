"""What a claim came to, before and after its commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from portal.encryption import Place
from tokens.models import GrantTokens

if TYPE_CHECKING:
    import uuid

    from providers.models import ProviderConfig
    from providers.oauth import Failure, TokenSet
    from tokens.claim import Claim

TOKENS_TABLE = GrantTokens._meta.db_table
UNREADABLE = "unreadable"
FENCED = "fenced"
# Why an answer was fenced off: the causes that go with it. What was deleted was taken back before.
OVERTAKEN = "another refresh was accepted first"
REVOKED = "the connection was revoked meanwhile"


@dataclass(frozen=True)
class Result:
    """What one claim came to. `sent` and `answered` are monotonic seconds of this process."""

    claim: Claim
    config: ProviderConfig
    came_to: TokenSet | Failure | str  # str: UNREADABLE, nothing was sent.
    sent: float | None = None
    answered: float | None = None
    # The Date that the provider put on its answer, as it came; "" without one.
    date: str = ""

    @property
    def took(self) -> float | None:
        """Return how many seconds the provider took to answer; None if it was not asked, or did not."""
        return None if self.sent is None or self.answered is None else self.answered - self.sent


@dataclass(frozen=True)
class Committed:
    """What the commit made of a result."""

    outcome: str
    cause: str = ""
    http_status: int | None = None
    error_code: str = ""
    # What kept a refused grant from ending (tokens/guard.py); "" if nothing did.
    held_by: str = ""


def token_place(column: str, *, grant_id: uuid.UUID, application_id: uuid.UUID) -> Place:
    """Name the place of a grant's sealed token, without loading the row."""
    return Place(table=TOKENS_TABLE, column=column, row=str(grant_id), tenant=str(application_id))
