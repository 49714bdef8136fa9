"""/ and /_sandbox/: what there is, on one page."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice

from aiohttp import web

from providers.sandbox.demo import TASKS
from providers.sandbox.keys import STATE
from providers.sandbox.people import ACCOUNTS
from providers.sandbox.replies import Html, fill, page


async def index(request: web.Request) -> web.StreamResponse:
    """Show addresses, accounts, switches and the last calls."""
    state = request.app[STATE]
    clock = datetime.fromtimestamp(state.now(), tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    moved = f", moved by {state.clock_offset:+.0f} s" if state.clock_offset else ""
    content = fill(
        "index.html",
        base=str(request.url.origin()),
        client_id=TASKS.client_id,
        client_secret=TASKS.client_secret,
        clock=clock + moved,
        ACCOUNTS=_rows(
            [f"{account.name} ({account.slug})", account.account_id, account.site_names]
            for account in ACCOUNTS.values()
        ),
        SWITCHES=_rows([name, json.dumps(value)] for name, value in state.switches.as_dict().items()),
        CALLS=_rows(
            [str(call.n), f"{call.method} {call.path}", str(call.status), f"{call.outcome} {call.fault}"]
            for call in islice(reversed(state.ledger.calls), 20)
        ),
    )
    return page("Index", content)


def _rows(rows: Iterable[list[str]]) -> Html:
    return Html("".join(f"<tr>{''.join(fill('cell.html', text=text) for text in row)}</tr>" for row in rows))
