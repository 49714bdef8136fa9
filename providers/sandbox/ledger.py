"""The ledger: what the provider saw, call by call. Tests judge a client by it, never by the client's word."""

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

KEPT = 200_000


@dataclass(slots=True)
class Call:
    """One call. Codes and tokens appear as digests only (`providers.sandbox.tokens.digest`)."""

    n: int
    # Seconds since 1970 by the sandbox's clock, which can be moved.
    at: float
    method: str
    path: str
    # 0 while the call is under way, and for ever when no answer was sent.
    status: int = 0
    # "ok", an OAuth error code, or what else ended it; "pending" while it is under way.
    outcome: str = "pending"
    client_id: str = ""
    grant_type: str = ""
    # Digest of the code, refresh token or access token that was presented.
    presented: str = ""
    issued_access: str = ""
    issued_refresh: str = ""
    account: str = ""
    family: str = ""
    # Whether the sandbox changed its state because of this call, whatever the caller was told.
    committed: bool = False
    # Why the sandbox said no, in more detail than the caller learns.
    reason: str = ""
    fault: str = ""


class Ledger:
    """All calls since the start or the last clearing; the newest 200,000 are kept."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque(maxlen=KEPT)
        self._n = 0

    def open(self, *, at: float, method: str, path: str) -> Call:
        """Write down a call at the moment it arrives, so that a call that never gets an answer is there too."""
        self._n += 1
        call = Call(n=self._n, at=at, method=method, path=path)
        self.calls.append(call)
        return call

    def clear(self) -> None:
        self.calls.clear()
        self._n = 0

    def listing(self, *, path: str = "", since: int = 0) -> list[dict[str, Any]]:
        """Return the calls after number `since`, oldest first, only those to path when one is given."""
        return [asdict(call) for call in self.calls if call.n > since and path in ("", call.path)]
