"""Faults of the provider and of the way to it: all at once, each with an application of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.faults.catalog import READ_TIMEOUT_S
from bench.faults.world import SECRET, new_cell

if TYPE_CHECKING:
    from bench.faults.recovery import Patience
    from bench.faults.world import Cell

BEFORE, AFTER, REFUSED = "sent, before the provider's commit", "after the provider's commit", "refused"
NOT_SENT = "not sent"


@dataclass(frozen=True)
class Order:
    """One fault as the sandbox takes it."""

    name: str
    at: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)


HANG = {"seconds": READ_TIMEOUT_S * 3}
ORDERS = [
    Order("time-out", BEFORE, "timeout_before", HANG),
    Order("time-out", AFTER, "timeout_after", HANG),
    Order("reset", BEFORE, "drop_before_commit"),
    Order("reset", AFTER, "drop_after_commit"),
    Order("status 503, a page", BEFORE, "status_before", {"html": True}),
    Order("status 500", AFTER, "status_after", {"status": 500}),
    Order("status 429 with Retry-After", REFUSED, "throttle", {"retry_after": 30}),
    Order("redirect", REFUSED, "redirect", {"url": "http://127.0.0.1:1/elsewhere"}),
    Order("status 200 with a page", BEFORE, "html_200"),
    Order("status 200 with a page", AFTER, "html_200", {"commit": True}),
    Order("malformed: half an answer as a whole one", AFTER, "truncated", {"quiet": True}),
    Order("truncated", AFTER, "truncated"),
    Order("empty", AFTER, "empty"),
    Order("10 MB", AFTER, "oversized"),
    Order("access_token null", AFTER, "null_token"),
    Order("slow-loris", AFTER, "slow_loris"),
]


def run_all(
    patience: Patience, *, grants: int, times: int, storm: int, provider: str = "quick"
) -> list[Cell]:
    """Let every kind of fault hit each of its own grants so many times, all in the same ticks."""
    sandbox = patience.stage.sandbox
    cells = []
    for order in ORDERS:
        cell = new_cell(sandbox, order.name, order.at, grants=grants, provider=provider, is_due=False)
        sandbox.fault(order.kind, client_id=cell.client_id, times=grants * times, **order.options)
        cell.may_lose = cell.is_strict and order.at == AFTER
        cells.append(cell)
    stormed = new_cell(
        sandbox, f"429 storm, {storm} due", REFUSED, grants=storm, provider=provider, is_due=False
    )
    sandbox.fault("throttle", client_id=stormed.client_id, times=10, retry_after=60)
    replaced = new_cell(
        sandbox, "client secret refused, then right", REFUSED, grants=grants, provider=provider, is_due=False
    )
    sandbox.register_client(replaced.client_id, "ATOAanother-secret")
    cells += [stormed, replaced]
    make_due(patience, cells)
    patience.tick()
    sandbox.register_client(replaced.client_id, SECRET)
    patience.recover(cells)
    patience.judge(cells)
    sandbox.clear_faults()
    return cells


def run_unreachable(patience: Patience, *, grants: int) -> list[Cell]:
    """Let the way to the provider be closed: for a while, or for good."""
    stage = patience.stage
    refused = new_cell(
        stage.sandbox, "connection refused", NOT_SENT, grants=grants, provider="refused", is_due=False
    )
    cells = [refused]
    for provider, fault in (("nowhere", "no such host (DNS)"), ("plain", "no TLS there")):
        cells.append(new_cell(stage.sandbox, fault, NOT_SENT, grants=grants, provider=provider, is_due=False))
        cells[-1].is_hopeless = True
    make_due(patience, cells)
    for _ in range(3):
        patience.tick()
        patience.settle()
        patience.let_pass(20)
    stage.relay.open()
    patience.recover(cells)
    patience.judge(cells)
    return cells


def run_burst(patience: Patience, *, grants: int) -> Cell:
    """Let the provider say invalid_grant to everybody for a quarter of an hour, as one in trouble does."""
    sandbox = patience.stage.sandbox
    cell = new_cell(sandbox, f"invalid_grant to all {grants}", REFUSED, grants=grants, is_due=False)
    body = {"error": "invalid_grant", "error_description": "Unknown or invalid refresh token."}
    sandbox.fault("status_before", client_id=cell.client_id, times=-1, status=403, body=body)
    make_due(patience, [cell])
    patience.recover([cell], limit=900)
    patience.settle()
    sandbox.clear_faults()
    patience.recover([cell])
    patience.judge([cell])
    return cell


def make_due(patience: Patience, cells: list[Cell]) -> None:
    """Let all grants of the cells come due at one moment."""
    from django.db.models.functions import Now

    from tokens.models import Grant

    everyone = [grant for cell in cells for grant in cell.grants]
    Grant.objects.filter(pk__in=everyone).update(refresh_due_at=Now())
    for cell in cells:
        cell.began = patience.now()
