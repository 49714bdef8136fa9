"""What a provider configuration's records mean, in a word for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from providers.catalog_loader import catalog

if TYPE_CHECKING:
    from providers.models import ProviderConfig

Tone = Literal["good", "warn", "bad", "quiet"]


@dataclass(frozen=True)
class ConfigState:
    """A word, its tone, and a sentence that says what it means here."""

    tone: Tone
    word: str
    detail: str = ""


def describe(config: ProviderConfig) -> ConfigState:
    """Tell how a configuration stands. Needs its application loaded."""
    if config.provider_id not in catalog():
        return ConfigState(
            "bad", "Not in the catalog", "Its catalog file is gone, so nothing can be asked there."
        )
    if config.application.is_archived:
        return ConfigState("quiet", "Paused", "The application is archived.")
    if not config.is_enabled:
        return ConfigState(
            "quiet",
            "Disabled",
            "Nobody can connect, and nothing is refreshed or handed out. Connections stay.",
        )
    if config.problem_code:
        return ConfigState("bad", "Needs attention", config.problem_message)
    return ConfigState("good", "Active")
