"""How many grants a second one worker process refreshes, against a bare aiohttp loop posting the same requests.

The product claims, journals, decrypts, calls, encrypts and commits; the floor posts and reads, and stores nothing.
Both keep as many requests in flight, at a sandbox that answers after a fixed delay; they run alternately.

    python -m bench.refresh [--grants 20000] [--in-flight 200] [--delay-ms 50] [--runs 3]
"""

import argparse
import asyncio
import base64
import datetime as dt
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from bench.sandbox import _free_port, _wait_for
from portal.embedded import EmbeddedServers
from providers.sandbox.client import SandboxClient

CLIENT_ID = "BenchClient000000000000000000000"
CLIENT_SECRET = "ATOAbench-secret"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--grants", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=200)
    parser.add_argument("--delay-ms", type=int, default=50)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    print(machine())
    print(f"settings: {vars(options)}")
    with running(token_delay_ms=options.delay_ms) as (servers, port):
        _measure(options, servers, port)


def machine() -> str:
    """Say what this was measured on, and how busy that was already."""
    return (
        f"machine: {platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} before the start"
    )


@contextmanager
def running(**switches: int) -> Iterator[tuple[EmbeddedServers, int]]:
    """Run a PostgreSQL, a Valkey and a sandbox of one's own, switched so; their folder goes with them."""
    with tempfile.TemporaryDirectory() as folder:
        servers = EmbeddedServers(Path(folder) / "servers")
        servers.start()
        port = _free_port()
        order = ["manage.py", "sandbox", "--port", str(port)]
        for name, value in switches.items():
            order += ["--set", f"{name}={value}"]
        sandbox = subprocess.Popen(
            [sys.executable, *order], env={**os.environ, **_environment(servers, port)}
        )
        try:
            _wait_for(port)
            yield servers, port
        finally:
            sandbox.terminate()
            sandbox.wait()
            servers.stop()


def _environment(servers: EmbeddedServers, port: int) -> dict[str, str]:
    return {
        "SECRET_KEY": "bench" * 12,
        "ENCRYPTION_KEYS": "bench:" + base64.b64encode(os.urandom(32)).decode(),
        "PUBLIC_URL": "http://127.0.0.1:8000",
        "INSECURE_HTTP": "true",
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "SANDBOX_URL": f"http://127.0.0.1:{port}",
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "LOG_LEVEL": "WARNING",
    }


def set_up(servers: EmbeddedServers, port: int) -> tuple[SandboxClient, Any]:
    """Set Django up on these servers, and return the sandbox and a configuration that it knows."""
    os.environ.update(_environment(servers, port))
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    client = SandboxClient(f"http://127.0.0.1:{port}")
    client.register_client(CLIENT_ID, CLIENT_SECRET)
    config = make_config()
    # As a worker does when it starts.
    from portal.start_up import keep_what_is_loaded

    keep_what_is_loaded()
    return client, config


def _measure(options: argparse.Namespace, servers: EmbeddedServers, port: int) -> None:
    client, config = set_up(servers, port)
    products, floors = [], []
    for run in range(1, options.runs + 1):
        store(config, mint(client, options.grants, first=(2 * run) * options.grants))
        products.append(_product(options))
        floors.append(
            _floor(options, client.url, mint(client, options.grants, first=(2 * run + 1) * options.grants))
        )
        print(
            f"run {run}: product={products[-1]:.0f}/s floor={floors[-1]:.0f}/s ratio={products[-1] / floors[-1]:.2f}"
        )
    product, floor = sorted(products)[len(products) // 2], sorted(floors)[len(floors) // 2]
    print(f"bench-refresh ratio={product / floor:.2f} product={product:.0f}/s floor={floor:.0f}/s")


def make_config() -> Any:
    from portal.models import Application
    from providers.models import ProviderConfig

    application = Application.objects.create(name="Bench", slug="bench")
    scopes = ["read:me", "offline_access", "read:jira-work", "read:jira-user"]
    config = ProviderConfig(
        application=application, provider_id="atlassian", client_id=CLIENT_ID, scopes=scopes
    )
    config.set_client_secret(CLIENT_SECRET)
    config.save()
    return config


def mint(client: SandboxClient, count: int, *, first: int) -> list[dict[str, Any]]:
    minted: list[dict[str, Any]] = []
    while len(minted) < count:
        minted += client.mint(CLIENT_ID, min(1000, count - len(minted)), first=first + len(minted))
    return minted


def store(config: Any, minted: list[dict[str, Any]]) -> None:
    from django.utils import timezone

    from portal.encryption import seal
    from tokens.models import Grant, GrantStatus, GrantTokens

    now = timezone.now()
    for start in range(0, len(minted), 1000):
        grants, tokens = [], []
        for one in minted[start : start + 1000]:
            grant = Grant(
                application=config.application,
                provider_config=config,
                end_user=one["account"],
                account_id=one["account_id"],
                status=GrantStatus.ACTIVE,
                access_expires_at=now + dt.timedelta(minutes=5),
                refresh_due_at=now - dt.timedelta(minutes=1),
                refreshed_at=now - dt.timedelta(minutes=55),
            )
            row = GrantTokens(grant=grant)
            seal(row, "access_token", one["access_token"])
            seal(row, "refresh_token", one["refresh_token"])
            grants.append(grant)
            tokens.append(row)
        Grant.objects.bulk_create(grants)
        GrantTokens.objects.bulk_create(tokens)


def _product(options: argparse.Namespace) -> float:
    from tokens.engine import drain
    from tokens.models import Grant

    refreshed = Grant.objects.filter(gen=1).count()
    start = time.perf_counter()
    drain(in_flight=options.in_flight, budget=dt.timedelta(hours=1))
    seconds = time.perf_counter() - start
    done = Grant.objects.filter(gen=1).count() - refreshed
    if done != options.grants:
        raise SystemExit(f"Only {done} of {options.grants} grants were refreshed.")
    return done / seconds


def _floor(options: argparse.Namespace, url: str, minted: list[dict[str, Any]]) -> float:
    async def post_all() -> float:
        waiting = iter(minted)

        async def post(session: aiohttp.ClientSession) -> None:
            for one in waiting:
                order = {
                    "grant_type": "refresh_token",
                    "client_id": CLIENT_ID,
                    "client_secret": CLIENT_SECRET,
                    "refresh_token": one["refresh_token"],
                }
                async with session.post(f"{url}/oauth/token", json=order) as response:
                    await response.read()

        connector = aiohttp.TCPConnector(limit=options.in_flight)
        async with aiohttp.ClientSession(connector=connector) as session:
            start = time.perf_counter()
            await asyncio.gather(*(post(session) for _ in range(options.in_flight)))
            return time.perf_counter() - start

    return len(minted) / asyncio.run(post_all())


if __name__ == "__main__":
    main()
