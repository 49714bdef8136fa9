"""Store accepted answers: one statement for a whole group, each row only where its generation is the one spent."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from portal.audit import SYSTEM, record
from portal.encryption import key_ring
from portal.models import Event
from providers.oauth import TokenSet
from providers.spec import Outcome
from tokens import schedule, upstream
from tokens.models import Grant
from tokens.raw import raw_cursor
from tokens.results import FENCED, OVERTAKEN, REVOKED, Committed, token_place

if TYPE_CHECKING:
    import uuid

    from tokens.results import Result

RECOVERED = "recovered a lost answer inside the leeway"

# Everything about time is said as an interval before or after the database's clock. Rows are locked in one order for
# everybody. The old refresh token stays where the answer brings none (RFC 6749 section 6).
_ACCEPT = """
WITH answers AS (
    SELECT id, gen, now.at - age * second AS born, life * second AS life, due * second AS due,
        idle_due * second AS idle_due, is_read, idle * second AS idle, scopes, access_token, refresh_token
    FROM (SELECT clock_timestamp() AS at, interval '1 second' AS second) now,
    unnest(%(ids)s::uuid[], %(gens)s::int[], %(ages)s::float8[], %(lives)s::float8[],
        %(dues)s::float8[], %(idle_dues)s::float8[], %(reads)s::bool[], %(idles)s::float8[], %(scopes)s::text[], %(accesses)b::bytea[], %(refreshes)b::bytea[])
        AS a (id, gen, age, life, due, idle_due, is_read, idle, scopes, access_token, refresh_token)
),
locked AS MATERIALIZED (
    SELECT id, gen, status, provider_config_id FROM tokens_grant WHERE id = ANY(%(ids)s) ORDER BY id FOR UPDATE
),
accepted AS (
    UPDATE tokens_grant g
    SET gen = g.gen + 1, status = 'active', refreshed_at = clock_timestamp(),
        access_expires_at = a.born + a.life,
        refresh_due_at = a.born + CASE
            WHEN c.freshness = 'always' THEN a.due
            WHEN c.freshness = 'used' AND (a.is_read
                OR greatest(g.used_at, g.consented_at) > clock_timestamp() - c.fresh_days * interval '1 day') THEN a.due
            ELSE a.idle_due END,
        idle_deadline = clock_timestamp() + a.idle,
        granted_scopes = coalesce(string_to_array(a.scopes, ' '), g.granted_scopes),
        claim_owner = NULL, claim_until = NULL, inflight_gen = NULL, inflight_since = NULL,
        fail_count = 0, fail_outcome = '', cause = '', next_attempt_at = NULL, ended_at = NULL
    FROM answers a JOIN locked l ON l.id = a.id JOIN providers_providerconfig c ON c.id = l.provider_config_id
    WHERE g.id = a.id AND l.gen = a.gen AND l.status IN ('active', 'needs_reconnect')
    RETURNING g.id, l.status
),
stored AS (
    UPDATE tokens_granttokens t
    SET access_token = a.access_token, refresh_token = coalesce(a.refresh_token, t.refresh_token)
    FROM answers a JOIN accepted USING (id)
    WHERE t.grant_id = a.id
)
SELECT l.id, l.status, accepted.id IS NOT NULL FROM locked l LEFT JOIN accepted USING (id)
"""


def accept(results: list[Result]) -> dict[uuid.UUID, Committed]:
    """Store the token sets of `results` in the caller's transaction; what a newer answer overtook is fenced."""
    if not results:
        return {}
    with raw_cursor() as cursor:
        cursor.execute(_ACCEPT, _columns(results))
        found: dict[uuid.UUID, tuple[str, bool]] = {pk: (status, ok) for pk, status, ok in cursor.fetchall()}
    done = {}
    for result in results:
        grant_id = result.claim.grant_id
        earlier, is_accepted = found.get(grant_id, ("revoked", False))
        if not is_accepted:
            done[grant_id] = Committed(FENCED, REVOKED if earlier == "revoked" else OVERTAKEN)
            if earlier == "revoked" and grant_id in found:
                _end_what_came_too_late(result)
            continue
        done[grant_id] = Committed(Outcome.OK, RECOVERED if result.claim.inflight_since else "", 200)
        if earlier != "active":
            grant = Grant.objects.select_related("provider_config").get(pk=grant_id)
            record(Event.GRANT_RECOVERED, actor=SYSTEM, application=result.config.application, subject=grant)
    return done


def _end_what_came_too_late(result: Result) -> None:
    """Have the provider end a pair that it made for a grant which was taken back meanwhile."""
    assert isinstance(result.came_to, TokenSet)
    grant = Grant.objects.select_related("provider_config").get(pk=result.claim.grant_id)
    token = result.came_to.refresh_token or result.came_to.access_token
    upstream.write_down(grant, token, after=timedelta(0))


def _columns(results: list[Result]) -> dict[str, list[Any]]:
    ring, now = key_ring(), time.monotonic()
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "ids",
            "gens",
            "ages",
            "lives",
            "dues",
            "idle_dues",
            "reads",
            "idles",
            "scopes",
            "accesses",
            "refreshes",
        )
    }
    for result in results:
        claim, policy, tokens = result.claim, result.config.spec.refresh, result.came_to
        assert isinstance(tokens, TokenSet)
        life = schedule.access_lifetime(policy, tokens)

        def sealed(column: str, text: str, claim: Any = claim) -> bytes:
            return ring.seal(
                text, token_place(column, grant_id=claim.grant_id, application_id=claim.application_id)
            )

        columns["ids"].append(claim.grant_id)
        columns["gens"].append(claim.gen)
        # A token's life begins when the provider made it, which was after we sent, at the earliest.
        columns["ages"].append(now - result.sent if result.sent else 0.0)
        columns["lives"].append(_seconds(life))
        due = schedule.due_after(policy, claim.grant_id, life) if life else None
        columns["dues"].append(_seconds(due))
        columns["idle_dues"].append(_seconds(due and schedule.idle_due_after(policy, claim.grant_id, due)))
        columns["reads"].append(claim.is_read)
        columns["idles"].append(_seconds(policy.idle_limit))
        columns["scopes"].append(None if tokens.scopes is None else " ".join(tokens.scopes))
        columns["accesses"].append(sealed("access_token", tokens.access_token))
        columns["refreshes"].append(tokens.refresh_token and sealed("refresh_token", tokens.refresh_token))
    return columns


def _seconds(time: timedelta | None) -> float | None:
    return None if time is None else time.total_seconds()
