"""Compare the provider's clock with the database's, from the Date that it puts on its answers.

Nothing is decided on the provider's clock, but a large difference explains odd lifetimes, and shows whose clock is wrong
before somebody looks for it at the wrong end. Health tells of it.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, connection

if TYPE_CHECKING:
    from tokens.results import Result

logger = logging.getLogger(__name__)

# Less is the way there and a Date that has no fractions; ordinary drift is a few seconds.
SKEW = timedelta(seconds=60)

# The difference is the database's to tell: this process's clock only says that there may be one.
_NOTE = """
INSERT INTO providers_providerhealth AS h (provider_id, misses_in_a_row, clock_ahead_s, clock_seen_at)
VALUES (%(provider)s, 0, extract(epoch FROM %(date)s - (clock_timestamp() - %(ago)s)), clock_timestamp())
ON CONFLICT (provider_id) DO UPDATE SET clock_ahead_s = excluded.clock_ahead_s, clock_seen_at = excluded.clock_seen_at
"""


def note_clock(results: list[Result]) -> None:
    """Write down by how much the provider's clock differs, if it does; one answer of a group is enough.

    It stands outside the commit: whatever becomes of it, the answers are safe.
    """
    latest = next((result for result in reversed(results) if result.date and result.answered), None)
    if latest is None or latest.answered is None:
        return
    try:
        date = parsedate_to_datetime(latest.date)
    except ValueError:
        return
    ago = timedelta(seconds=time.monotonic() - latest.answered)
    if date.tzinfo is None or abs(date - (datetime.now(UTC) - ago)) <= SKEW:
        return
    params: dict[str, Any] = {"provider": latest.config.provider_id, "date": date, "ago": ago}
    try:
        with connection.cursor() as cursor:
            cursor.execute(_NOTE, params)
    except DatabaseError as error:
        logger.warning("The provider's clock could not be noted (%s).", type(error).__name__)
