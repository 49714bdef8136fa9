"""Answers: JSON, pages, and the pages that a broken gateway sends."""

import json
from html import escape
from pathlib import Path
from string import Template
from typing import Any, NewType

from aiohttp import web

# Text that is HTML already; everything else is escaped on its way into a page.
Html = NewType("Html", str)

_PAGES = Path(__file__).parent / "pages"
_STATIC = {"sandbox.css": "text/css", "site.svg": "image/svg+xml", "person.svg": "image/svg+xml"}
# No form-action: the consent form ends with a redirect to the client, which that rule would block.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_templates: dict[str, Template] = {}


def json_reply(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return JSON that nobody may cache."""
    return web.Response(
        body=json.dumps(body, separators=(",", ":")).encode(),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


def fill(name: str, /, **values: str) -> Html:
    """Fill a template of the pages folder; what is not Html is escaped."""
    template = _templates.get(name)
    if template is None:
        template = _templates[name] = Template((_PAGES / name).read_text(encoding="utf-8"))
    # Html is text at run time, so templates say with a name in capitals where they expect markup.
    return Html(
        template.substitute({key: value if key.isupper() else escape(value) for key, value in values.items()})
    )


def page(title: str, content: Html, *, status: int = 200) -> web.Response:
    """Return a whole page with the sandbox's banner."""
    text = fill("layout.html", title=title, CONTENT=content)
    return web.Response(text=text, status=status, content_type="text/html", headers=_PAGE_HEADERS)


def server_error_page(status: int, *, headers: dict[str, str] | None = None) -> web.Response:
    """Return what a gateway in trouble sends: HTML where JSON was expected."""
    text = f"<html><head><title>{status}</title></head><body><h1>{status} Service trouble</h1></body></html>"
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


async def static_file(request: web.Request) -> web.Response:
    """Serve the few files that the pages need."""
    name = request.match_info["name"]
    if name not in _STATIC:
        raise web.HTTPNotFound
    return web.Response(
        body=(_PAGES / name).read_bytes(),
        content_type=_STATIC[name],
        headers={"X-Content-Type-Options": "nosniff"},
    )
