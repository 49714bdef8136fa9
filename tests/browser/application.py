"""An application on an origin of its own: one page that loads connect.js, and a back end with an API key."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Acme Tasks</title>
<script src="{portal}/connect.js"></script></head>
<body><h1>Acme Tasks</h1><button id="connect">Connect</button><ol id="log"></ol>
<script>
  const say = (text) => document.getElementById("log").append(Object.assign(document.createElement("li"), {{ textContent: text }}));
  const finish = async (result) => {{
    const answer = await fetch("/exchange", {{ method: "POST", body: JSON.stringify(result) }});
    say("grant " + (await answer.json()).status);
  }};
  const connect = (more) => Portal.connect({{ session: "/session", ...more }}).then(finish, (error) => say("error " + error.code));
  document.getElementById("connect").addEventListener("click", () => connect(window.options));
  Portal.returned().then((result) => result && finish(result), (error) => say("returned " + error.code));
</script></body></html>"""


class Application:
    """What the application has done so far, and the switches of a test."""

    def __init__(self, portal: str, key: str) -> None:
        self.portal, self.key = portal, key
        self.url = ""
        # Connect sessions made, in order, and the bodies of what was to be exchanged.
        self.sessions: list[dict[str, Any]] = []
        self.results: list[dict[str, str]] = []
        # Closed while a session is being made: a slow network.
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.headers: dict[str, str] = {}
        self.page = PAGE.format(portal=portal)
        self.session_url = ""

    def call(self, path: str, **fields: object) -> dict[str, Any]:
        """Call the portal's API."""
        request = Request(f"{self.portal}/api/v1/{path}", data=json.dumps(fields).encode(), method="POST")
        request.add_header("Authorization", f"Bearer {self.key}")
        request.add_header("Content-Type", "application/json")
        with urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def make_session(self) -> dict[str, Any]:
        """Make a connect session for the user who is signed in."""
        self.may_answer.wait(timeout=10)
        session = self.call(
            "connect/sessions", end_user="user-1", provider="atlassian", return_url=f"{self.url}/?tab=apps"
        )
        self.sessions.append(session)
        return {"id": session["id"], "url": self.session_url or session["url"]}

    def exchange(self, result: dict[str, str]) -> dict[str, Any]:
        """Trade the code, for a session that this back end has made."""
        self.results.append(result)
        assert result["connect_session"] in {session["id"] for session in self.sessions}
        return self.call("connect/exchange", code=result["code"], end_user="user-1")


@contextmanager
def application_at(portal: str, key: str) -> Iterator[Application]:
    """Serve the application on a free port of 127.0.0.1, which is another site than localhost."""
    application = Application(portal, key)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            # Browsers ask for an icon as well.
            is_page = urlsplit(self.path).path == "/"
            self.answer(application.page if is_page else "", "text/html", 200)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path.endswith("/session"):
                found = application.make_session()
            else:
                found = application.exchange(json.loads(body))
            self.answer(json.dumps(found), "application/json", 200)

        def answer(self, text: str, kind: str, status: int) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            for name, value in application.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    application.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield application
    finally:
        server.shutdown()
        server.server_close()
