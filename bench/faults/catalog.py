"""The bench's providers: Atlassian to the letter, but for a short read deadline, and one change each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portal.local.environment import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# Seconds for one answer; everything else about time is production's.
READ_TIMEOUT_S = 2


def write_catalog(folder: Path, *, relay: int, plain: int, leeway: int = 60) -> None:
    """Write the files: `relay` is the port of a door that can be shut, `plain` one that speaks no TLS."""
    folder.mkdir()
    quick = _changed(
        (ROOT / "providers" / "catalog" / "atlassian.toml").read_text(),
        ("timeout = 20", f"timeout = {READ_TIMEOUT_S}"),
    )
    own_host = ("has_sandbox = true", "has_sandbox = false")
    real = 'url = "https://auth.atlassian.com/oauth/token"'
    changes = {
        "quick": [],
        # Access tokens and leeway of a minute, for a system under steady load.
        "soak": [
            ("leeway = 600\n", f"leeway = {leeway}\n"),
            ("companion = 600\n", f"companion = {leeway}\n"),
            ("ahead = 480\n", f"ahead = {leeway}\n"),
        ],
        # Nothing may come back, not even at once.
        "strict": [('rotation = "grace"', 'rotation = "strict"'), ("leeway = 600\n", "")],
        "refused": [own_host, (real, f'url = "http://127.0.0.1:{relay}/oauth/token"')],
        "nowhere": [own_host, (real, 'url = "https://no-such-host.invalid/oauth/token"')],
        "plain": [own_host, (real, f'url = "https://127.0.0.1:{plain}/oauth/token"')],
    }
    for name, mine in changes.items():
        text = _changed(quick, ('id = "atlassian"', f'id = "{name}"'), *mine)
        (folder / f"{name}.toml").write_text(text)


def _changed(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        if text.count(old) != 1:
            raise SystemExit(f"The catalog file has changed: {old!r} is in it {text.count(old)} times.")
        text = text.replace(old, new)
    return text
