"""How many fresh tokens a second one web process hands out, against a bare WSGI function on the same server.

The product checks the key, its permission and the rate limit, finds the grant by owner and id, decrypts, and commits
an audit row before it answers. The floor does one pooled SELECT, one AES-GCM decrypt and one JSON dump. Same Granian,
same PostgreSQL, same client; they run alternately, each alone.

    python -m bench.read [--grants 100000] [--clients 16] [--seconds 10] [--runs 3] [--threads 16]
"""

import argparse
import datetime as dt
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.load import Load, load
from bench.refresh import _environment, make_config
from bench.sandbox import _free_port, _wait_for
from portal.embedded import EmbeddedServers

FLOOR_KEY = os.urandom(32)
# As long as Atlassian's are.
ACCESS_TOKEN_BYTES = 1500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--grants", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=16, help="Granian's blocking threads, as make run has")
    options = parser.parse_args()
    print(f"machine: {platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"settings: {vars(options)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        servers = EmbeddedServers(Path(folder) / "servers")
        servers.start()
        try:
            environment = _environment(servers, 1) | {
                "ALLOWED_HOSTS": "127.0.0.1",
                "BENCH_FLOOR_KEY": FLOOR_KEY.hex(),
                # Counted and compared as ever, and never reached.
                "API_RATE_LIMIT": "100000000",
                "DATA_DIR": folder,
            }
            os.environ.update(environment)
            ids, key = _store(options.grants)
            _measure(options, ids, key)
        finally:
            servers.stop()


def _measure(options: argparse.Namespace, ids: list[str], key: str) -> None:
    products, floors = [], []
    for run in range(1, options.runs + 1):
        with web("portal.wsgi:application", options.threads) as port:
            paths = [f"/api/v1/grants/{one}/token" for one in ids]
            products.append(_run(options, port, paths, f"Authorization: Bearer {key}\r\n"))
        with web("bench.floor:application", options.threads) as port:
            floors.append(_run(options, port, [f"/floor/{one}" for one in ids], ""))
        print(
            f"run {run}: product={_told(products[-1])}  floor={_told(floors[-1])}  "
            f"ratio={products[-1].per_second / floors[-1].per_second:.2f}",
            flush=True,
        )
    _require_audited(products, options)
    product, floor = (
        sorted(loads, key=lambda one: one.per_second)[len(loads) // 2] for loads in (products, floors)
    )
    print(
        f"bench-read ratio={product.per_second / floor.per_second:.2f} product={product.per_second:.0f}/s "
        f"floor={floor.per_second:.0f}/s p99={product.p99 * 1000:.1f}ms"
    )


def _run(options: argparse.Namespace, port: int, paths: Sequence[str], headers: str) -> Load:
    done = load(port, paths, headers, clients=options.clients, seconds=options.seconds)
    if set(done.statuses) != {"200"}:
        raise SystemExit(f"Not every answer was a 200: {done.statuses}")
    return done


def _told(one: Load) -> str:
    return (
        f"{one.per_second:.0f}/s (p50 {one.p50 * 1000:.1f} ms, p99 {one.p99 * 1000:.1f} ms, "
        f"client {one.cpu:.0%} of a core)"
    )


@contextmanager
def web(application: str, threads: int) -> Iterator[int]:
    """Run one web process as `make run` and the image do, and give its port."""
    port = _free_port()
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--http", "1", "--no-ws"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--blocking-threads", str(threads)]
    process = subprocess.Popen([*command, "--log-level", "warning", application])
    try:
        for _ in range(6):  # A busy machine needs its time.
            with suppress(SystemExit):
                _wait_for(port)
                break
        yield port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def _store(count: int, permissions: Sequence[str] = ("tokens:read",)) -> tuple[list[str], str]:
    """Make the grants, and the floor's rows; return the grants' ids and an API key."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.db import connection

    from portal import api_keys
    from portal.audit import SYSTEM

    config = make_config()
    _, key = api_keys.create(config.application, name="bench", permissions=permissions, actor=SYSTEM)
    ids: list[str] = []
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bench_floor (id uuid PRIMARY KEY, sealed bytea)")
    for start in range(0, count, 1000):
        ids += _store_some(config, start, min(1000, count - start))
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("CHECKPOINT")
    connection.close()
    # What was stored is on the disk before anything is measured; else the system writes it meanwhile.
    os.sync()
    return ids, key


def _store_some(config: Any, start: int, count: int) -> list[str]:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from django.db import connection
    from django.utils import timezone

    from portal.encryption import seal
    from tokens.models import Grant, GrantStatus, GrantTokens, Site

    now = timezone.now()
    floor = AESGCM(FLOOR_KEY)
    grants, tokens, sites, rows = [], [], [], []
    for number in range(start, start + count):
        access_token = f"eyJ{number}".ljust(ACCESS_TOKEN_BYTES, "a")
        grant = Grant(
            application=config.application,
            provider_config=config,
            end_user=f"user-{number}",
            account_id=f"712020:{number}",
            account_name=f"Person {number}",
            status=GrantStatus.ACTIVE,
            granted_scopes=config.scopes,
            requested_scopes=config.scopes,
            access_expires_at=now + dt.timedelta(hours=5),
            refresh_due_at=now + dt.timedelta(hours=4),
            refreshed_at=now,
        )
        row = GrantTokens(grant=grant)
        seal(row, "access_token", access_token)
        grants.append(grant)
        tokens.append(row)
        sites.append(
            Site(
                grant=grant,
                cloud_id=f"cloud-{number}",
                name="acme",
                url="https://acme.atlassian.net",
                products=["Jira", "Confluence"],
            )
        )
        nonce = os.urandom(12)
        rows.append((str(grant.pk), nonce + floor.encrypt(nonce, access_token.encode(), None)))
    Grant.objects.bulk_create(grants)
    GrantTokens.objects.bulk_create(tokens)
    Site.objects.bulk_create(sites)
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO bench_floor VALUES (%s, %s)", rows)
    return [str(grant.pk) for grant in grants]


def _require_audited(products: list[Load], options: argparse.Namespace) -> None:
    """Stop if an answer went out that the audit log does not know of."""
    from portal.models import AuditEvent, Event

    written = AuditEvent.objects.filter(event=Event.TOKEN_HANDED_OUT).count()
    answered = sum(round(one.per_second * options.seconds) for one in products)
    if written < answered:
        raise SystemExit(f"{answered} tokens were handed out, and {written} are in the audit log.")


if __name__ == "__main__":
    main()
