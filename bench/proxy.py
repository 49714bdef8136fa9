"""What the proxy adds to a call: against the direct call to the same server, by the same client.

Added p50 and p99 and requests a second, product and direct call alternately; then how much memory the web process takes
while a body of 50 MB streams through it. The proxy checks key, permission and limits, writes the audit row, and decrypts.

    python -m bench.proxy [--grants 1000] [--clients 8] [--seconds 10] [--runs 3] [--threads 16]
"""

import argparse
import http.client
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from bench.load import Load, load
from bench.read import FLOOR_KEY, _store, web
from bench.refresh import _environment
from bench.sandbox import _free_port, _wait_for
from portal.embedded import EmbeddedServers

STREAMED = 50 * 1024 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--grants", type=int, default=1000)
    # An application has so many places in one web process (tokens/proxy.py).
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=16)
    options = parser.parse_args()
    print(f"machine: {platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"settings: {vars(options)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        servers = EmbeddedServers(Path(folder) / "servers")
        servers.start()
        port = _free_port()
        upstream = subprocess.Popen([sys.executable, "-m", "bench.upstream", str(port)])
        try:
            _wait_for(port)
            os.environ.update(
                _environment(servers, port)
                | {
                    "ALLOWED_HOSTS": "127.0.0.1",
                    "BENCH_FLOOR_KEY": FLOOR_KEY.hex(),
                    "API_RATE_LIMIT": "100000000",
                    "DATA_DIR": folder,
                }
            )
            ids, key = _store(options.grants, permissions=["proxy"])
            _measure(options, ids, key, port)
        finally:
            upstream.terminate()
            upstream.wait()
            servers.stop()


def _measure(options: argparse.Namespace, ids: list[str], key: str, upstream: int) -> None:
    call = "rest/api/3/myself"
    proxied, direct = [], []
    with web("portal.wsgi:application", options.threads) as port:
        paths = [f"/api/v1/proxy/{one}/-/jira/{call}" for one in ids]
        for run in range(1, options.runs + 1):
            proxied.append(_run(options, port, paths, f"Authorization: Bearer {key}\r\n"))
            direct.append(_run(options, upstream, [f"/ex/jira/cloud-1/{call}"], ""))
            print(f"run {run}: proxy {_told(proxied[-1])}  direct {_told(direct[-1])}", flush=True)
        before, peak = _memory_while_streaming(
            port, f"/api/v1/proxy/{ids[0]}/-/jira/big?bytes={STREAMED}", key
        )
    through, straight = (
        sorted(loads, key=lambda one: one.p50)[len(loads) // 2] for loads in (proxied, direct)
    )
    print(
        f"bench-proxy added p50={(through.p50 - straight.p50) * 1000:.1f}ms "
        f"added p99={(through.p99 - straight.p99) * 1000:.1f}ms proxy={through.per_second:.0f}/s "
        f"direct={straight.per_second:.0f}/s memory={before:.0f}MB while-50MB-stream={peak:.0f}MB"
    )


def _run(options: argparse.Namespace, port: int, paths: list[str], headers: str) -> Load:
    done = load(port, paths, headers, clients=options.clients, seconds=options.seconds)
    if set(done.statuses) != {"200"}:
        raise SystemExit(f"Not every answer was a 200: {done.statuses}")
    return done


def _told(one: Load) -> str:
    return f"{one.per_second:.0f}/s (p50 {one.p50 * 1000:.1f} ms, p99 {one.p99 * 1000:.1f} ms)"


def _memory_while_streaming(port: int, path: str, key: str) -> tuple[float, float]:
    """Return the memory of all our web processes before, and at most while a body streams, in MB."""
    before = peak = _memory()
    is_done = threading.Event()

    def fetch() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
        response, seen = connection.getresponse(), 0
        while part := response.read(65_536):
            seen += len(part)
        connection.close()
        if seen != STREAMED:
            raise SystemExit(f"{seen} bytes of {STREAMED} came.")
        is_done.set()

    thread = threading.Thread(target=fetch)
    thread.start()
    while thread.is_alive():
        peak = max(peak, _memory())
        time.sleep(0.01)
    if not is_done.is_set():
        raise SystemExit("The body did not come whole.")
    return before, peak


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
