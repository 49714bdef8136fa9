"""What wants attention, in words, and where to see to it: the notes of Overview and Health."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.urls import reverse

from portal.models import WebhookEndpoint
from tokens import browse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portal.models import Application
    from providers.models import ProviderConfig
    from tokens.connection_counts import ConnectionCounts
    from tokens.incidents import Incident


@dataclass(frozen=True)
class Note:
    """Something that wants attention, and where to see to it. `permission` is needed to follow the link."""

    tone: str
    title: str
    text: str
    url: str
    action: str
    permission: str = "VIEW"


def config_notes(configs: Iterable[ProviderConfig]) -> list[Note]:
    """Return what is wrong with configurations."""
    notes = []
    for config in configs:
        link = (config.get_absolute_url(), "Open provider", "MANAGE_PROVIDERS")
        if config.problem_code and config.is_enabled:
            notes.append(Note("bad", f"{config.provider_name} does not work.", config.problem_message, *link))
        elif not config.is_enabled:
            text = "Its connections stay, but nobody can connect, and nothing is refreshed or handed out."
            notes.append(Note("quiet", f"{config.provider_name} is disabled.", text, *link))
    return notes


def webhook_notes(application: Application) -> list[Note]:
    """Tell of endpoints that we no longer send to, and of those that take nothing."""
    notes: list[Note] = []
    if not application.has_ailing_webhooks:
        return notes
    for endpoint in WebhookEndpoint.objects.visible_to(application).ailing():
        endpoint.application = application
        link = (endpoint.get_absolute_url(), "Open endpoint")
        if endpoint.is_disabled:
            text = (
                f"{endpoint.get_disabled_reason_display()}. Nothing is sent to it until somebody enables it."
            )
            notes.append(Note("bad", f"Webhooks to {endpoint.name} were stopped.", text, *link))
        else:
            text = "Messages are kept and tried again for three days."
            notes.append(Note("warn", f"Webhooks to {endpoint.name} are not taken.", text, *link))
    return notes


def recovery_notes(application: Application, incidents: list[Incident]) -> list[Note]:
    """Tell what is over since lately: one note a provider."""
    notes = []
    for config in dict.fromkeys(incident.config for incident in incidents):
        mine = [incident for incident in incidents if incident.config == config]
        if config.problem_code or not mine[0].is_over:
            continue
        began = next((incident for incident in mine if not incident.is_over), None)
        text = f"It did not work until {mine[0].at:%H:%M} UTC"
        if began is not None:
            text = f"It did not work from {began.at:%H:%M} to {mine[0].at:%H:%M} UTC. {began.why}"
        notes.append(
            Note(
                "good",
                f"{config.provider_name} works again.",
                text,
                f"{reverse('health', args=[application.slug])}?span=day&provider={config.provider_id}",
                "Show health",
            )
        )
    return notes


def grant_notes(application: Application, counts: ConnectionCounts) -> list[Note]:
    list_url = reverse("grant-list", args=[application.slug])
    notes = []
    if counts.unreadable:
        notes.append(
            Note(
                "bad",
                f"{_connections(counts.unreadable)} cannot be decrypted.",
                "An encryption key is missing from the portal's configuration, or rows are damaged. If the key is gone "
                "for good, a reconnect link replaces what cannot be read.",
                f"{list_url}?status=unreadable",
                "Show " + _them(counts.unreadable),
            )
        )
    if counts.needs_reconnect:
        notes.append(
            Note(
                "warn",
                f"{_connections(counts.needs_reconnect)} must be reconnected.",
                "The app was removed at the provider, a password changed, or it was unused for too long. "
                "Send each person a reconnect link.",
                f"{list_url}?status=needs_reconnect",
                "Show " + _them(counts.needs_reconnect),
            )
        )
    if counts.ending:
        verb = "ends" if counts.ending == 1 else "end"
        notes.append(
            Note(
                "warn",
                f"{_connections(counts.ending)} {verb} within {browse.REMIND_BEFORE.days} days.",
                "The provider ends a connection so long after consent, used or not. Send each person a reconnect link "
                "before that, and nothing stops.",
                f"{list_url}?status=ending",
                "Show " + _them(counts.ending),
            )
        )
    if counts.pending:
        verb = "waits" if counts.pending == 1 else "wait"
        notes.append(
            Note(
                "warn",
                f"{_connections(counts.pending)} {verb} for confirmation.",
                "Look whether the account is the end user's, then confirm or reject it.",
                f"{list_url}?status=pending",
                "Look at " + _them(counts.pending),
            )
        )
    if counts.failing:
        verb = "is" if counts.failing == 1 else "are"
        notes.append(
            Note(
                "warn",
                f"{_connections(counts.failing)} {verb} being retried.",
                "The last refresh failed in a way that can pass. We keep trying; nothing is lost.",
                f"{list_url}?status=retrying",
                "Show " + _them(counts.failing),
            )
        )
    return notes


def _connections(count: int) -> str:
    return f"{count:,} connection" + ("" if count == 1 else "s")


def _them(count: int) -> str:
    return "it" if count == 1 else "them"
