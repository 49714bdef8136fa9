"""What a claim costs, and a sweep of all that is due, with 10,000, 100,000 and 1,000,000 grants stored, 1 % of them due.

The database is PostgreSQL in a folder of its own, deleted afterwards. Tokens have 2 kB each, as sealed ones do not
compress, and each grant has a row in the journal; those that are due are the sandbox's own, so that the sweep really refreshes them.

    python -m bench.scale [--sizes 10000,100000,1000000] [--claims 40] [--batch 50]
"""

import argparse
import datetime as dt
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from bench.refresh import machine, make_config, mint, running, set_up, store
from providers.sandbox.client import SandboxClient

DUE_SHARE = 100
TOKEN_BYTES = 2048
# What a grant with its tokens, indexes and write-ahead log takes, and what the two sizes below it add.
DISK_BYTES_A_GRANT = 12_000
FILL_AT_ONCE = 50_000
TABLES = ("tokens_grant", "tokens_granttokens", "tokens_refreshattempt")
# How often an hourly token is refreshed: at most eight minutes and half a minute of jitter ahead of its end.
SECONDS_BETWEEN_REFRESHES = 3600 - 480 - 30
AIM = 5_000_000

_FILL = """
WITH made AS (
    INSERT INTO tokens_grant (id, application_id, provider_config_id, end_user, label, status, account_id, account_name,
        account_email, search_text, requested_scopes, granted_scopes, gen, access_expires_at, refreshed_at,
        refresh_due_at, claim_epoch, fail_count, fail_outcome, cause, consented_at, confirmed_at, upstream_revocation)
    SELECT gen_random_uuid(), %(application)s, %(config)s, 'user-' || n, '', 'active', '712020:account-' || n,
        'Jo Doe ' || n, 'jo' || n || '@acme.example', 'user-' || n || ' jo doe acme', %(scopes)s, %(scopes)s, 1,
        now() + interval '50 minutes', now() - interval '10 minutes',
        now() + interval '1 day' + random() * interval '1 hour', 1, 0, '', '', now(), now(), ''
    FROM generate_series(%(first)s, %(last)s) n
    RETURNING id
),
journal AS (
    INSERT INTO tokens_refreshattempt (grant_id, provider_config_id, gen, epoch, trigger, worker, claimed_at, sent_at,
        answered_at, committed_at, outcome, http_status, error_code, cause)
    SELECT id, %(config)s, 0, 1, 'member', 'made up', now(), now(), now(), now(), 'ok', 200, '', '' FROM made
)
INSERT INTO tokens_granttokens (grant_id, access_token, refresh_token)
SELECT id, %(token)s, %(token)s FROM made
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", type=_sizes, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--claims", type=int, default=40)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--in-flight", type=int, default=200)
    parser.add_argument("--delay-ms", type=int, default=50)
    options = parser.parse_args()
    print(machine())
    print(f"settings: {vars(options)}")
    needed, free = max(options.sizes) * DISK_BYTES_A_GRANT, shutil.disk_usage(tempfile.gettempdir()).free
    print(f"disk: {needed / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free in {tempfile.gettempdir()}")
    if free < needed * 1.2:
        raise SystemExit("There is not enough room; choose smaller --sizes, or another TMPDIR.")
    with running(token_delay_ms=options.delay_ms) as (servers, port):
        client, _ = set_up(servers, port)
        stores = [_Store(size, client, options) for size in options.sizes]
        # Alternately, so that what else the machine does falls on all of them.
        for _ in range(options.claims):
            for one in stores:
                one.claim_once()
        for one in stores:
            one.sweep()
            print(one.in_words(), flush=True)
        small, large = stores[0], stores[-1]
        kept_fresh = large.rate * SECONDS_BETWEEN_REFRESHES
        print(
            f"one worker process keeps {kept_fresh:,.0f} hourly grants fresh at the last rate "
            f"(refreshed every {SECONDS_BETWEEN_REFRESHES} s; aim {AIM:,})"
        )
        print(
            f"bench-scale ratio={large.claim_ms / small.claim_ms:.2f} claim={large.claim_ms:.1f}ms "
            f"floor={small.claim_ms:.1f}ms sweep={large.rate:.0f}/s hourly={kept_fresh:.0f}"
        )


class _Store:
    """A database of its own with so many grants, and what was measured there."""

    def __init__(self, size: int, client: SandboxClient, options: argparse.Namespace) -> None:
        from django.core.management import call_command
        from django.db import connection

        self.size, self.options = size, options
        self.name = f"scale_{size}"
        self.due = max(options.batch, size // DUE_SHARE)
        self.times: list[float] = []
        self.rate = self.look_ms = 0.0
        began = time.perf_counter()
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {self.name}")
        self._enter()
        call_command("migrate", verbosity=0)
        config = make_config()
        _prepare()
        _fill(config, 0, size - self.due)
        store(config, mint(client, self.due, first=size))
        _settle()
        seconds = time.perf_counter() - began
        print(f"{size:>9,} grants: filled in {seconds:.0f} s; {_sizes_in_words()}", flush=True)

    def _enter(self) -> None:
        from django.db import connection

        connection.close()
        connection.settings_dict["NAME"] = self.name
        connection.ensure_connection()

    def claim_once(self) -> None:
        """Time one claim, and undo it; the first one's plans are looked at, and one before it warms up."""
        from django.db import connection

        from tokens.claim import claim_due
        from tokens.models import Trigger

        self._enter()
        for is_timed in (False, True):
            wrapper = nullcontext() if is_timed or self.times else connection.execute_wrapper(_explain)
            with wrapper:
                began = time.perf_counter()
                claims = claim_due(limit=self.options.batch, trigger=Trigger.BEAT)
                if is_timed:
                    self.times.append(time.perf_counter() - began)
            if len(claims) != self.options.batch:
                raise SystemExit(f"Only {len(claims)} of {self.options.batch} were claimed.")
            _undo([claim.grant_id for claim in claims])

    def sweep(self) -> None:
        """Refresh all that is due, and look once more when nothing is."""
        self._enter()
        self.rate = _sweep(self.options, self.due)
        self.look_ms = _look_time() * 1000

    @property
    def claim_ms(self) -> float:
        """Return the median time of a claim in milliseconds."""
        return statistics.median(self.times) * 1000

    def in_words(self) -> str:
        """Say what was measured."""
        return (
            f"{self.size:>9,} grants: claim of {self.options.batch} in {self.claim_ms:.1f} ms (median of "
            f"{len(self.times)}), no sequential scan; {self.due:,} due swept at {self.rate:.0f}/s, then a look with "
            f"nothing due in {self.look_ms:.1f} ms"
        )


def _sizes(text: str) -> list[int]:
    return sorted(int(one) for one in text.split(","))


def _prepare() -> None:
    """Let the made-up tokens be stored as random ones would be, and be filled in without looking keys up."""
    from django.db import connection

    with connection.cursor() as cursor:
        for column in ("access_token", "refresh_token"):
            cursor.execute(f"ALTER TABLE tokens_granttokens ALTER COLUMN {column} SET STORAGE EXTERNAL")


def _fill(config: Any, first: int, last: int) -> None:
    from django.db import connection

    token = os.urandom(TOKEN_BYTES)
    with connection.cursor() as cursor:
        # Only while filling: no waiting for the disk, and no look at the two rows that all of them point at.
        cursor.execute("SET synchronous_commit = off")
        cursor.execute("SET session_replication_role = replica")
        for start in range(first, last, FILL_AT_ONCE):
            cursor.execute(
                _FILL,
                {
                    "application": config.application_id,
                    "config": config.pk,
                    "scopes": config.scopes,
                    "token": token,
                    "first": start + 1,
                    "last": min(start + FILL_AT_ONCE, last),
                },
            )
        cursor.execute("RESET session_replication_role")
        cursor.execute("RESET synchronous_commit")


def _settle() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"VACUUM ANALYZE {table}")
        cursor.execute("CHECKPOINT")


def _sizes_in_words() -> str:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_table_size('tokens_grant'), pg_total_relation_size('tokens_granttokens'),"
            " pg_indexes_size('tokens_grant'), pg_relation_size('grant_due')"
        )
        grants, tokens, indexes, due = (size / 1e6 for size in cursor.fetchone())
    return (
        f"grants {grants:.1f} MB, tokens {tokens:.1f} MB, indexes of grants {indexes:.1f} MB, "
        f"of them what the claim reads {due:.1f} MB"
    )


def _undo(ids: list[Any]) -> None:
    from tokens.models import Grant, RefreshAttempt

    Grant.objects.filter(pk__in=ids).update(
        claim_owner=None, claim_until=None, inflight_gen=None, inflight_since=None
    )
    RefreshAttempt.objects.filter(grant__in=ids).delete()


def _explain(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001
    """Ask for the plan of each statement that a claim sends, before it is sent."""
    if sql.lstrip().startswith(("WITH", "SELECT")):
        with context["connection"].connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (FORMAT JSON) {sql}", params)
            _refuse_scans(cursor.fetchone()[0][0]["Plan"])
    return execute(sql, params, many, context)


def _refuse_scans(node: dict[str, Any]) -> None:
    if node["Node Type"] == "Seq Scan" and node["Relation Name"] in TABLES:
        raise SystemExit(f"A claim scans all of {node['Relation Name']}.")
    for child in node.get("Plans", []):
        _refuse_scans(child)


def _look_time() -> float:
    from tokens.claim import claim_due
    from tokens.models import Trigger

    began = time.perf_counter()
    assert claim_due(limit=1, trigger=Trigger.BEAT) == []
    return time.perf_counter() - began


def _sweep(options: argparse.Namespace, due: int) -> float:
    """Refresh all that is due, and return how many that were in a second."""
    from tokens.engine import drain
    from tokens.models import RefreshAttempt, Trigger

    began = time.perf_counter()
    drain(in_flight=options.in_flight, budget=dt.timedelta(hours=1))
    seconds = time.perf_counter() - began
    ours = RefreshAttempt.objects.filter(trigger=Trigger.BEAT)
    done = ours.filter(outcome="ok").count()
    if done != due:
        raise SystemExit(f"Only {done} of {due} grants were refreshed.")
    ours.delete()
    return due / seconds


if __name__ == "__main__":
    main()
