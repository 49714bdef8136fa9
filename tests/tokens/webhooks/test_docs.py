"""docs/webhooks.md: every snippet in it runs, and what it promises is what the code does.

F1 asks for the reference library in another language too. That check needs npm, so it is made by hand: with `make run`
and an endpoint that leads to a server whose handler is `new Webhook(secret).verify(body, request.headers)` of the package
standardwebhooks 1.1.1. Made on 2026-11-27 with a test event and a new connection, during a rotation: either secret verified.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright._impl._driver import compute_driver_executable

from portal.audit import SYSTEM
from portal.models import WebhookMessage, WebhookType
from providers.models import PROBLEMS
from tests.factories import GrantFactory
from tests.processes import wait_until
from tokens.revoke import revoke
from tokens.webhooks import settle
from tokens.webhooks.claim import MOST_AT_ONE_ENDPOINT, TIMEOUT
from tokens.webhooks.deliver import deliver
from tokens.webhooks.signing import new_secret, signed_headers

if TYPE_CHECKING:
    from collections.abc import Iterator

GUIDE = (Path(__file__).parents[3] / "docs" / "webhooks.md").read_text()
BODY = '{"type": "grant.revoked", "data": {"end_user": "J\\u00f6"}}'


def snippet(name: str) -> str:
    found = re.search(rf"<!-- snippet: {re.escape(name)} -->\n```\w+\n(.*?)```", GUIDE, re.DOTALL)
    assert found, f"docs/webhooks.md has no snippet {name}"
    return found[1]


def run(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def secret() -> str:
    return new_secret()


@pytest.fixture
def guide_receiver(secret: str, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Start the guide's receiver; give its address and what it prints."""
    (tmp_path / "receiver.py").write_text(snippet("receiver.py"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "receiver.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / "receiver.py")],
            env={"PATH": os.environ["PATH"], "WEBHOOK_SECRET": secret, "PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: _listens(port), what="the guide's receiver")
        yield f"http://127.0.0.1:{port}/", log
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.django_db
def test_the_guide_s_receiver_takes_ours_and_no_others(guide_receiver, secret, monkeypatch, new_endpoint):
    url, log = guide_receiver
    monkeypatch.setattr("tokens.webhooks.endpoints.new_secret", lambda: secret)
    grant = GrantFactory(end_user="user-4711")
    new_endpoint(grant.application, url=url)
    revoke(grant, actor=SYSTEM)

    deliver()
    by_hand = run("sh", "-eu", "-c", snippet("send.sh"), WEBHOOK_SECRET=secret, URL=url)
    forged = run("sh", "-eu", "-c", snippet("send.sh"), WEBHOOK_SECRET=new_secret(), URL=url)

    assert WebhookMessage.objects.get().status == "delivered"
    assert (by_hand, forged) == ("204\n", "400\n")
    assert log.read_text().count("grant.revoked {'grant_id'") == 2
    assert "user-4711" in log.read_text()


def test_the_node_snippet_tells_ours_from_others(secret, tmp_path):
    # Playwright brings a Node.js along.
    node = str(compute_driver_executable()[0])
    (tmp_path / "verify.mjs").write_text(snippet("verify.mjs"))
    (tmp_path / "try.mjs").write_text(
        'import { verify } from "./verify.mjs"; const [body, headers, secret] = JSON.parse(process.env.GIVEN);'
        "let found; try { found = verify(body, headers, secret).data.end_user; } catch (error) { found = error.message; }"
        "console.log(found);"
    )

    def verdict(body: str, secrets: list[str], at: datetime) -> str:
        headers = signed_headers("msg_1", BODY, at=at, secrets=secrets)
        return run(node, str(tmp_path / "try.mjs"), GIVEN=json.dumps([body, headers, secret])).strip()

    now = datetime.now(UTC)
    assert verdict(BODY, [secret], now) == "Jö"
    assert verdict(BODY, [new_secret(), secret], now) == "Jö"
    assert verdict(BODY, [new_secret()], now) == "the signature does not fit"
    assert verdict(BODY + " ", [secret], now) == "the signature does not fit"
    assert verdict(BODY, [secret], datetime(2026, 1, 1, tzinfo=UTC)) == "not a webhook, or an old one"


def test_the_shell_snippet_makes_the_same_signature(secret):
    at = datetime(2026, 11, 27, 5, 24, 13, tzinfo=UTC)
    headers = signed_headers("msg_1", BODY, at=at, secrets=[secret])
    made = run(
        "sh", "-eu", "-c", snippet("sign.sh"),
        WEBHOOK_SECRET=secret, ID="msg_1", TIMESTAMP=headers["webhook-timestamp"], BODY=BODY,
    )  # fmt: skip

    assert f"v1,{made.strip()}" == headers["webhook-signature"]


def test_the_guide_names_every_type_and_problem_and_the_right_numbers():
    for name in (*WebhookType.values, *PROBLEMS):
        assert f"`{name}`" in GUIDE
    assert [pause.total_seconds() for pause in settle.PAUSES] == [
        5, 300, 1800, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24)),
    ]  # fmt: skip
    assert "5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h" in GUIDE
    assert f"{TIMEOUT.total_seconds():.0f} seconds" in GUIDE
    assert MOST_AT_ONE_ENDPOINT == 10
    assert "At most ten calls" in GUIDE
