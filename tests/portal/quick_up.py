"""`make run` with a small program in place of web, worker, beat and sandbox: for tests of how a run ends.

    python -m tests.portal.quick_up

A real one takes ten seconds of work to start. PostgreSQL, Valkey and the watchdog are the real ones here too.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from portal.local import up
from portal.local.environment import HOST, ROOT
from portal.local.processes import Child

if TYPE_CHECKING:
    from portal.local.environment import Place
    from portal.local.processes import Watchdog

# It answers on its ports and has a child of its own, as Granian and Celery have.
PROGRAM = """
import http.server, subprocess, sys, threading

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"])
for port in sys.argv[2:]:
    threading.Thread(target=http.server.HTTPServer((sys.argv[1], int(port)), Handler).serve_forever).start()
"""


def stand_in(place: Place, env: dict[str, str], watchdog: Watchdog) -> list[Child]:
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, HOST, str(place.port), str(place.sandbox_port)]
    return [Child("web", command, log=place.data / "logs" / "web.log", watchdog=watchdog, env=env, cwd=ROOT)]


if __name__ == "__main__":
    up.describe_children = stand_in
    # Nothing here reads the database.
    up.Up.prepare = up.Up.connect_demo = lambda self: None  # type: ignore[method-assign]
    sys.exit(up.main())
