"""What the proxy adds to a call, against the direct call to the sandbox with the same token, by the same clients.

Requests a second and added p50 and p99, proxy and direct call alternately; then how much memory the web process takes
while an attachment of 50 MB streams through it. The proxy checks key, permission and limits, writes the audit row, and decrypts.

    python -m bench.proxy [--grants 1000] [--clients 8] [--seconds 10] [--runs 3] [--threads 16]
"""

import argparse
import datetime as dt
import http.client
import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from bench.load import Load, load
from bench.read import web
from bench.refresh import machine, mint, running, set_up
from providers.sandbox.people import ACME

STREAMED = 50 * 1024 * 1024
CALL = "rest/api/3/myself"
LARGE = "rest/api/3/attachment/content/10000?redirect=false"


class Grant(NamedTuple):
    """A grant that the portal and the sandbox know."""

    id: str
    access_token: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--grants", type=int, default=1000)
    # An application has so many places in one web process (tokens/proxy.py).
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=16, help="Granian's blocking threads, as make run has")
    options = parser.parse_args()
    print(machine())
    print(f"settings: {vars(options)}", flush=True)
    with running(attachment_bytes=STREAMED) as (servers, port), tempfile.TemporaryDirectory() as folder:
        # Limits are counted and compared as ever, and never reached.
        os.environ.update({"ALLOWED_HOSTS": "127.0.0.1", "API_RATE_LIMIT": "100000000", "DATA_DIR": folder})
        client, config = set_up(servers, port)
        grants = _store(config, mint(client, options.grants, first=0))
        _measure(options, grants, _key(config), port)


def _measure(options: argparse.Namespace, grants: list[Grant], key: str, sandbox: int) -> None:
    proxied, direct = [], []
    with web("portal.wsgi:application", options.threads) as port:
        through = [f"/api/v1/proxy/{grant.id}/-/jira/{CALL}" for grant in grants]
        straight = [f"/ex/jira/{ACME.cloud_id}/{CALL}"] * len(grants)
        tokens = [grant.access_token for grant in grants]
        for run in range(1, options.runs + 1):
            proxied.append(_run(options, port, through, [key] * len(grants)))
            direct.append(_run(options, sandbox, straight, tokens))
            print(f"run {run}: proxy {_told(proxied[-1])}  direct {_told(direct[-1])}", flush=True)
        before, peak, seconds = _memory_while_streaming(
            port, f"/api/v1/proxy/{grants[0].id}/-/jira/{LARGE}", key
        )
    product, floor = (
        sorted(loads, key=lambda one: one.per_second)[len(loads) // 2] for loads in (proxied, direct)
    )
    print(
        f"bench-proxy ratio={product.per_second / floor.per_second:.2f} product={product.per_second:.0f}/s "
        f"floor={floor.per_second:.0f}/s p50={product.p50 * 1000:.1f}ms p99={product.p99 * 1000:.1f}ms "
        f"added_p50={(product.p50 - floor.p50) * 1000:.1f}ms added_p99={(product.p99 - floor.p99) * 1000:.1f}ms "
        f"memory={before:.0f}MB while_50MB_stream={peak:.0f}MB stream={STREAMED / 2**20 / seconds:.0f}MB/s"
    )


def _run(options: argparse.Namespace, port: int, paths: list[str], bearers: list[str]) -> Load:
    headers = [f"Authorization: Bearer {bearer}\r\n" for bearer in bearers]
    done = load(port, paths, headers, clients=options.clients, seconds=options.seconds)
    if set(done.statuses) != {"200"}:
        raise SystemExit(f"Not every answer was a 200: {done.statuses}")
    return done


def _told(one: Load) -> str:
    return (
        f"{one.per_second:.0f}/s (p50 {one.p50 * 1000:.1f} ms, p99 {one.p99 * 1000:.1f} ms, "
        f"client {one.cpu:.0%} of a core)"
    )


def _key(config: Any) -> str:
    from portal import api_keys
    from portal.audit import SYSTEM

    return api_keys.create(config.application, name="bench", permissions=["proxy"], actor=SYSTEM)[1]


def _store(config: Any, minted: list[dict[str, Any]]) -> list[Grant]:
    """Store grants whose tokens are fresh, each with the one site that it reaches."""
    from django.db import connection
    from django.utils import timezone

    from portal.encryption import seal
    from tokens import models

    now = timezone.now()
    grants, tokens, sites, stored = [], [], [], []
    for one in minted:
        grant = models.Grant(
            application=config.application,
            provider_config=config,
            end_user=one["account"],
            account_id=one["account_id"],
            status=models.GrantStatus.ACTIVE,
            granted_scopes=config.scopes,
            access_expires_at=now + dt.timedelta(seconds=one["expires_in"]),
            refresh_due_at=now + dt.timedelta(seconds=one["expires_in"] * 0.8),
            refreshed_at=now,
        )
        row = models.GrantTokens(grant=grant)
        seal(row, "access_token", one["access_token"])
        grants.append(grant)
        tokens.append(row)
        sites.append(models.Site(grant=grant, cloud_id=ACME.cloud_id, name=ACME.name, products=["Jira"]))
        stored.append(Grant(str(grant.pk), one["access_token"]))
    models.Grant.objects.bulk_create(grants)
    models.GrantTokens.objects.bulk_create(tokens)
    models.Site.objects.bulk_create(sites)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    connection.close()
    return stored


def _memory_while_streaming(port: int, path: str, key: str) -> tuple[float, float, float]:
    """Return the memory of all our web processes before, and at most while a body streams, in MB; and how long it took."""
    before = peak = _memory()
    is_done = threading.Event()

    def fetch() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
        response, seen = connection.getresponse(), 0
        while part := response.read(65_536):
            seen += len(part)
        connection.close()
        if seen == STREAMED:
            is_done.set()
        else:
            print(f"{seen} bytes of {STREAMED} came, with status {response.status}.")

    thread = threading.Thread(target=fetch)
    began = time.perf_counter()
    thread.start()
    while thread.is_alive():
        peak = max(peak, _memory())
        time.sleep(0.01)
    if not is_done.is_set():
        raise SystemExit("The body did not come whole.")
    return before, peak, time.perf_counter() - began


def _memory() -> float:
    """Return the resident memory of this process's grandchildren called granian's workers, in MB."""
    total = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text, command = status.read_text(), (status.parent / "cmdline").read_text()
        except OSError:
            continue
        if "granian" in command and "portal.wsgi" in command and _is_ours(text):
            total += int(text.split("VmRSS:")[1].split()[0])
    return total / 1024


def _is_ours(status: str) -> bool:
    parent = int(status.split("PPid:")[1].split(maxsplit=1)[0])
    while parent > 1:
        if parent == os.getpid():
            return True
        parent = int(Path(f"/proc/{parent}/status").read_text().split("PPid:")[1].split()[0])
    return False


if __name__ == "__main__":
    main()
