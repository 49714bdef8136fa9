"""What the snippets of the manual run against: the portal, the sandbox, and a person in front of a browser."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from django.conf import settings
from django.urls import reverse

from portal import api_keys
from portal.audit import SYSTEM
from portal.models.api_keys import KeyPermission
from providers.models import ProviderConfig
from tests.factories import ApplicationFactory
from tests.processes import ROOT, test_database_url
from tests.tokens.connecting import Browser, configured, query_of

if TYPE_CHECKING:
    from providers.sandbox.thread import SandboxThread

TIMEOUT_S = 60
# Silent but for errors, and failing where the portal says no.
PRELUDE = """curl() { command curl --silent --show-error --fail-with-body "$@"; echo; }
make() { echo "make starts what nobody ends: say so above it" >&2; return 1; }
"""


class World:
    """Runs snippets in order. What one exports, the next has; made-up values in them stand for real ones here."""

    def __init__(self, live: str, sandbox: SandboxThread, folder: Path) -> None:
        self.live, self.sandbox, self.folder = live, sandbox, folder
        self.exports = folder / "exports"
        self.exports.write_text("")
        for name, slug in (("Acme Tasks", "acme-tasks"), ("Acme Wiki", "acme-wiki")):
            application = ApplicationFactory(
                name=name, slug=slug, return_origins=["https://app.example.com", live]
            )
            configured(sandbox, application=application)
            if slug == "acme-tasks":
                key, text = self._key(application), ""
                _, text = api_keys.create(
                    application, name="back end", permissions=KeyPermission.values, actor=SYSTEM
                )
        self.stands_for = {
            "http://127.0.0.1:8000": live,
            "https://portal.example.com": live,
            "http://127.0.0.1:8001": sandbox.url,
            ".venv/bin/python -m portal.local.manage": "python manage.py",
            "dpk_0123456789ab": key.shown_id,
            "dpk_…": text,
        }
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "portal.settings",
            "SECRET_KEY": settings.SECRET_KEY,
            "ENCRYPTION_KEYS": ",".join(settings.ENCRYPTION_KEYS),
            "DATABASE_URL": test_database_url(),
            "REDIS_URL": settings.REDIS_URL,
            "DATA_DIR": str(settings.DATA_DIR),
            "PUBLIC_URL": live,
            "SANDBOX_URL": sandbox.url,
            "INSECURE_HTTP": "true",
            "PORTAL_KEY": text,
            "KEY": text,
        }

    @staticmethod
    def _key(application: Any) -> Any:
        """Make the key that the manual calls dpk_0123456789ab."""
        return api_keys.create(application, name="older", permissions=["grants:read"], actor=SYSTEM)[0]

    def connect_a_user(self) -> None:
        """Connect the manual's user before its first snippet, for pages that begin after that."""
        body = {"end_user": "user-4711", "provider": "atlassian", "return_url": "https://app.example.com/"}
        call = 'curl http://127.0.0.1:8000/api/v1/%s -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" -d \'%s\''
        self.shell(call % ("connect/sessions", json.dumps(body)))
        self.shell(call % ("connect/exchange", '{"code": "…", "end_user": "user-4711"}'))

    def shell(self, source: str) -> str:
        """Run commands as a person would, one after the other, in one shell. Raises AssertionError if one fails."""
        script = f'{PRELUDE}. "$EXPORTS"\n{self.real(source)}\nexport -p > "$EXPORTS"\n'
        # As the manual says there: nothing is exported while providers are switched on.
        ProviderConfig.objects.update(is_enabled="grants/export" not in source)
        return self._run("sh", "-eu", "-c", script)

    def python(self, source: str) -> str:
        """Run a program with the exports of the shell before it."""
        program = self.folder / "program.py"
        program.write_text(self.real(source))
        return self._run("sh", "-eu", "-c", f'. "$EXPORTS"; exec python {program}')

    def real(self, source: str) -> str:
        """Put real values in place of the manual's."""
        for written, real in self.stands_for.items():
            source = source.replace(written, real)
        return source

    def _run(self, *command: str) -> str:
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env={**self.environment, "EXPORTS": str(self.exports)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, errors = process.communicate(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                # With all that it has started.
                os.killpg(process.pid, signal.SIGKILL)
                raise
        assert process.returncode == 0, f"{output}\n{errors}"
        self._go_on(output)
        return output

    def _go_on(self, output: str) -> None:
        """Do what people do next: connect at an open session, and note the ids that an answer brought."""
        answers = list(_objects(output))
        if not answers:
            return
        last = answers[-1]
        if last.get("status") == "open" and "url" in last:
            self._connect(last)
        for answer in answers:
            if "account" in answer and "end_user" in answer:
                self._export("GRANT", answer["id"])

    def _connect(self, session: dict[str, Any]) -> None:
        """Consent at the sandbox, and read the code off the address that the browser ends at."""
        browser = Browser(self.sandbox)
        browser.arrive(urlsplit(session["url"]).path.strip("/").rpartition("/")[2])
        back = browser.client.post(reverse("connect-return", args=[session["id"]]))
        self.stands_for['"code": "…"'] = f'"code": "{query_of(back["Location"])["code"]}"'
        self._export("CODE", query_of(back["Location"])["code"])
        self._export("SESSION", session["id"])

    def _export(self, name: str, value: str) -> None:
        with self.exports.open("a") as file:
            file.write(f"export {name}='{value}'\n")


def _objects(output: str) -> Any:
    """Yield the JSON objects among the lines of an output."""
    decoder = json.JSONDecoder()
    for line in output.splitlines():
        if line.startswith("{"):
            yield decoder.raw_decode(line)[0]
