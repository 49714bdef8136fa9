"""Store accepted answers: one statement for a whole group, each row only where its generation is the one spent.

The same statement closes the journal's rows and counts: each statement more would cost the worker as much as ten grants.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from portal.audit import SYSTEM, record
from portal.encryption import key_ring
from portal.models import Event
from providers.oauth import TokenSet
from providers.spec import Outcome
from tokens import latency, schedule, upstream
from tokens.counts import ADD_UP
from tokens.models import Grant
from tokens.raw import raw_cursor
from tokens.results import FENCED, OVERTAKEN, REVOKED, Committed, token_place

if TYPE_CHECKING:
    import uuid

    from portal.encryption import Place
    from tokens.results import Result

RECOVERED = "recovered a lost answer inside the leeway"
ACCEPTED_STATUS = 200

# Everything about time is said as an interval before or after the database's clock. Rows are locked in one order for
# everybody, those of the group's failures with them: who counts holds all the grants it is going to write. The old
# refresh token stays where the answer brings none (RFC 6749 section 6).
_ACCEPT = f"""
WITH answers AS (
    SELECT id, gen, epoch, sent * second AS sent, answered * second AS answered, place, cause,
        now.at - coalesce(sent, 0) * second AS born, life * second AS life, due * second AS due,
        idle_due * second AS idle_due, is_read, idle * second AS idle, scopes, access_token, refresh_token
    FROM (SELECT clock_timestamp() AS at, interval '1 second' AS second) now,
    unnest(%(ids)b::uuid[], %(gens)b::int[], %(epochs)b::int[], %(sents)b::float8[], %(answers)b::float8[],
        %(places)b::int[], %(causes)b::text[], %(lives)b::float8[], %(dues)b::float8[], %(idle_dues)b::float8[],
        %(reads)b::bool[], %(idles)b::float8[], %(scopes)b::text[], %(accesses)b::bytea[], %(refreshes)b::bytea[])
        AS a (id, gen, epoch, sent, answered, place, cause, life, due, idle_due, is_read, idle, scopes,
            access_token, refresh_token)
),
locked AS MATERIALIZED (
    SELECT id, gen, status, provider_config_id FROM tokens_grant WHERE id = ANY(%(locked)b) ORDER BY id FOR UPDATE
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
    RETURNING g.id, g.application_id, g.provider_config_id
),
stored AS (
    UPDATE tokens_granttokens t
    SET access_token = a.access_token, refresh_token = coalesce(a.refresh_token, t.refresh_token)
    FROM answers a JOIN accepted USING (id)
    WHERE t.grant_id = a.id
),
closed AS (
    UPDATE tokens_refreshattempt r
    SET sent_at = clock_timestamp() - a.sent, answered_at = clock_timestamp() - a.answered,
        committed_at = clock_timestamp(), outcome = '{Outcome.OK}', http_status = {ACCEPTED_STATUS}, cause = a.cause
    FROM answers a JOIN accepted USING (id)
    WHERE r.grant_id = a.id AND r.epoch = a.epoch
),
counted AS (
    INSERT INTO tokens_refreshminute AS t
        (provider_config_id, application_id, starts_at, outcome, count, latencies, waited_ms)
    SELECT provider_config_id, application_id, date_trunc('minute', now()), '{Outcome.OK}', count(*),
        {latency.COUNTED}, coalesce(round(1000 * extract(epoch FROM sum(a.sent - a.answered))), 0)
    FROM answers a JOIN accepted USING (id)
    GROUP BY provider_config_id, application_id ORDER BY provider_config_id
    ON CONFLICT (provider_config_id, starts_at, outcome) {ADD_UP}
)
SELECT l.id, l.status, accepted.id IS NOT NULL,
    c.misses_in_a_row > 0 OR c.refused_in_a_row > 0 OR h.misses_in_a_row > 0 OR h.opened_at IS NOT NULL
FROM locked l LEFT JOIN accepted USING (id)
JOIN providers_providerconfig c ON c.id = l.provider_config_id
LEFT JOIN providers_providerhealth h ON h.provider_id = c.provider_id
"""  # noqa: S608 - made of constants


@dataclass
class Accepted:
    """What became of the token sets of a group."""

    done: dict[uuid.UUID, Committed]
    # Whether a configuration or its provider is on record as not well, though it answers.
    is_ill_noted: bool = False


def accept(results: list[Result]) -> Accepted:
    """Store the token sets among `results`, all in the caller's transaction; what a newer answer overtook is fenced.

    Those that are stored are also closed in the journal and counted. The grants of the others are locked with them.
    """
    answers = [result for result in results if isinstance(result.came_to, TokenSet)]
    if not answers:
        return Accepted({})
    columns = _columns(answers)
    columns["locked"] = [result.claim.grant_id for result in results]
    with raw_cursor() as cursor:
        cursor.execute(_ACCEPT, columns)
        rows = cursor.fetchall()
    found: dict[uuid.UUID, tuple[str, bool]] = {pk: (status, ok) for pk, status, ok, _ in rows}
    accepted = Accepted({}, any(is_ill for *_, is_ill in rows))
    for result in answers:
        accepted.done[result.claim.grant_id] = _committed(
            result, *found.get(result.claim.grant_id, ("", False))
        )
    return accepted


def _committed(result: Result, earlier: str, is_accepted: bool) -> Committed:  # noqa: FBT001 - as the database said it
    if not is_accepted:
        if earlier in ("revoked", ""):
            _end_what_came_too_late(result)
        return Committed(FENCED, OVERTAKEN if earlier not in ("revoked", "") else REVOKED)
    if earlier != "active":
        grant = Grant.objects.select_related("provider_config").get(pk=result.claim.grant_id)
        record(Event.GRANT_RECOVERED, actor=SYSTEM, application=result.config.application, subject=grant)
    return Committed(Outcome.OK, _cause(result), ACCEPTED_STATUS)


def _cause(result: Result) -> str:
    return RECOVERED if result.claim.inflight_since else ""


def _end_what_came_too_late(result: Result) -> None:
    """Have the provider end a pair that it made for a grant which was taken back, or erased, meanwhile."""
    assert isinstance(result.came_to, TokenSet)
    token = result.came_to.refresh_token or result.came_to.access_token
    grant = Grant.objects.select_related("provider_config").filter(pk=result.claim.grant_id).first()
    if grant is None:
        upstream.write_down_late(result.config, result.claim.grant_id, token)
    else:
        upstream.write_down(grant, token, after=timedelta(0))


def _columns(results: list[Result]) -> dict[str, list[Any]]:
    now = time.monotonic()
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "ids", "gens", "epochs", "sents", "answers", "places", "causes", "lives", "dues", "idle_dues", "reads",
            "idles", "scopes",
        )
    }  # fmt: skip
    for result in results:
        claim, policy, tokens = result.claim, result.config.spec.refresh, result.came_to
        assert isinstance(tokens, TokenSet)
        life = schedule.access_lifetime(policy, tokens)
        due = schedule.due_after(policy, claim.grant_id, life) if life else None
        columns["ids"].append(claim.grant_id)
        columns["gens"].append(claim.gen)
        columns["epochs"].append(claim.epoch)
        # A token's life begins when the provider made it, which was after we sent, at the earliest.
        columns["sents"].append(result.sent and now - result.sent)
        columns["answers"].append(result.answered and now - result.answered)
        columns["places"].append(None if result.took is None else latency.place_of(result.took))
        columns["causes"].append(_cause(result))
        columns["lives"].append(_seconds(life))
        columns["dues"].append(_seconds(due))
        columns["idle_dues"].append(_seconds(due and schedule.idle_due_after(policy, claim.grant_id, due)))
        columns["reads"].append(claim.is_read)
        columns["idles"].append(_seconds(policy.idle_limit))
        columns["scopes"].append(None if tokens.scopes is None else " ".join(tokens.scopes))
    columns["accesses"], columns["refreshes"] = _sealed(results)
    return columns


def _sealed(results: list[Result]) -> tuple[list[bytes], list[bytes | None]]:
    """Seal both tokens of each answer, for the places where they will be stored."""
    values: list[tuple[str, Place]] = []
    for result in results:
        ids = {"grant_id": result.claim.grant_id, "application_id": result.claim.application_id}
        assert isinstance(result.came_to, TokenSet)
        values.append((result.came_to.access_token, token_place("access_token", **ids)))
        if result.came_to.refresh_token:
            values.append((result.came_to.refresh_token, token_place("refresh_token", **ids)))
    sealed = iter(key_ring().seal_all(values))
    accesses: list[bytes] = []
    refreshes: list[bytes | None] = []
    for result in results:
        assert isinstance(result.came_to, TokenSet)
        accesses.append(next(sealed))
        refreshes.append(next(sealed) if result.came_to.refresh_token else None)
    return accesses, refreshes


def _seconds(time: timedelta | None) -> float | None:
    return None if time is None else time.total_seconds()
