"""Look for secrets where none may be (I10): every token and client secret of the bench holds one word in clear."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection
from redis import Redis

if TYPE_CHECKING:
    from bench.faults.stage import Stage

CANARY = "CANARY-7f3a"


def find_secrets(stage: Stage) -> list[str]:
    """Return the places that hold the word: logs, the journal, the broker."""
    places = [file.name for file in stage.folder.rglob("*.log") if CANARY in file.read_text(errors="replace")]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM tokens_refreshattempt r WHERE to_jsonb(r)::text LIKE %s", [f"%{CANARY}%"]
        )
        (found,) = cursor.fetchone()
    if found:
        places.append("the journal")
    with Redis.from_url(stage.servers.redis_url) as broker:
        if any(CANARY.encode() in (broker.dump(key) or b"") for key in broker.scan_iter("*")):
            places.append("the broker")
    return places
