"""Keeping grants and chains across a restart, in a JSON file. It holds digests, no token and no secret."""

import asyncio
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from providers.sandbox.state import AccessToken, Client, Family, Grant, RefreshToken, State

logger = logging.getLogger("sandbox")

FORMAT = 1
# How long a change may wait before it is written; several changes then cost one write.
DEBOUNCE_SECONDS = 0.3
# Spent and expired tokens older than this are not worth keeping.
KEPT_SECONDS = 91 * 86_400

T = TypeVar("T")


class Keeper:
    """Reads the file at the start and writes it whenever the state has changed."""

    def __init__(self, state: State, path: Path) -> None:
        self.state = state
        self.path = path
        self._saved_version = state.version

    def load(self) -> None:
        """Take over what the file holds; a missing file is an empty one. Raises ValueError for another's file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            return
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            if kept["format"] != FORMAT:
                raise ValueError(f"format {kept['format']}")
            state = self.state
            state.clients |= _read(kept["clients"], lambda item: Client(**item))
            state.grants = _read(kept["grants"], lambda item: Grant(**item))
            state.families = _read(kept["families"], lambda item: Family(**item))
            state.refresh_tokens = _read(kept["refresh_tokens"], lambda item: RefreshToken(**item))
            state.access_tokens = _read(kept["access_tokens"], lambda item: AccessToken(**item))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.path} is not a state file of this sandbox ({error}). Remove it to start afresh."
            ) from error
        state.living = {
            (grant.issuer, grant.client_id, grant.account): grant.id
            for grant in state.grants.values()
            if not grant.is_revoked
        }

    async def keep(self) -> None:
        """Write changes soon after they happen, until cancelled."""
        while True:
            await asyncio.sleep(DEBOUNCE_SECONDS)
            try:
                self.save()
            except OSError as error:
                # A full disk must not end the demo; the next round tries again.
                logger.warning("The sandbox cannot write %s: %s", self.path, error)

    def save(self) -> None:
        """Write the file if anything changed: whole or not at all, readable by its owner only."""
        if self._saved_version == self.state.version:
            return
        state, oldest = self.state, self.state.now() - KEPT_SECONDS
        kept = {
            "format": FORMAT,
            "clients": _plain(state.clients),
            "grants": _plain(state.grants),
            "families": _plain(state.families),
            "refresh_tokens": _plain(
                {name: item for name, item in state.refresh_tokens.items() if item.issued_at > oldest}
            ),
            "access_tokens": _plain(
                {name: item for name, item in state.access_tokens.items() if item.expires_at > state.now()}
            ),
        }
        beside = self.path.with_suffix(".new")
        beside.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(beside, flags, 0o600), "w", encoding="utf-8") as file:
            json.dump(kept, file)
        beside.replace(self.path)
        self._saved_version = state.version


def _plain(items: dict[str, Any]) -> dict[str, Any]:
    return {name: asdict(item) for name, item in items.items()}


def _read(items: dict[str, dict[str, Any]], make: Callable[[dict[str, Any]], T]) -> dict[str, T]:
    return {name: make(item) for name, item in items.items()}
