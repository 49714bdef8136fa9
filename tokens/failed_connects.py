"""The connect sessions of the last 24 hours: what failed, and what an admin must see to."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Exists, Max, OuterRef
from django.db.models.functions import Now

from tokens.failures import FAILURES
from tokens.models import AuthorizationRequest, ConnectSession
from tokens.models.connect import SessionStatus
from tokens.notes import Note

if TYPE_CHECKING:
    import uuid
    from collections.abc import Mapping

    from portal.models import Application
    from providers.models import ProviderConfig

DAY = dt.timedelta(hours=24)
# Reasons why nobody can connect until an admin has done something; the others are a person's own affair. A refused
# secret or profile is not among them: the configuration reports these itself, and knows when they are over.
SET_UP_FAILURES = {"redirect_uri_not_registered", "scope_not_enabled", "unreadable_secret"}


@dataclass(frozen=True)
class FailedConnects:
    """How often connecting failed for one reason in the last 24 hours."""

    provider: str
    reason: str
    count: int
    latest: dt.datetime


class Connects:
    """The connect sessions of the last 24 hours, by configuration and what became of them."""

    def __init__(self, application: Application, configs: list[ProviderConfig], now: dt.datetime) -> None:
        self.configs = {config.pk: config for config in configs}
        unanswered = AuthorizationRequest.objects.filter(
            session=OuterRef("pk"), spent_at=None, expires_at__lte=Now()
        )
        self.rows = list(
            ConnectSession.objects.filter(application=application, created_at__gte=now - DAY)
            .order_by()
            .annotate(is_unanswered=Exists(unanswered))
            .values("provider_config_id", "status", "failure", "is_unanswered")
            .annotate(count=Count("pk"), latest=Max("created_at"))
        )

    def failed(self) -> list[FailedConnects]:
        """Return how often connecting failed, by reason; the most frequent first."""
        found: dict[tuple[uuid.UUID, str], FailedConnects] = {}
        for row in self.rows:
            if row["failure"]:
                key = (row["provider_config_id"], row["failure"])
                config = self.configs[row["provider_config_id"]]
                before = found.get(key)
                found[key] = FailedConnects(
                    provider=config.provider_name,
                    reason=_admin_words(row["failure"]),
                    count=row["count"] + (before.count if before else 0),
                    latest=max(row["latest"], before.latest) if before else row["latest"],
                )
        return sorted(found.values(), key=lambda one: (-one.count, one.provider, one.reason))

    def notes(self) -> list[Note]:
        """Return what an admin must see to, unless someone has connected since."""
        return [note for config in self.configs.values() for note in self._notes_of(config)]

    def _notes_of(self, config: ProviderConfig) -> list[Note]:
        if not config.is_enabled:
            return []
        rows = [row for row in self.rows if row["provider_config_id"] == config.pk]
        done = max((row["latest"] for row in rows if row["status"] == SessionStatus.DONE), default=None)
        rows = [row for row in rows if done is None or row["latest"] > done]
        failures = {row["failure"] for row in rows if not _is_about_an_old_secret(row, config)}
        link = (config.get_absolute_url(), "Open provider", "MANAGE_PROVIDERS")
        # What the configuration itself reports is not said twice.
        notes = [
            Note("bad", f"Nobody can connect {config.provider_name}.", _admin_words(failure), *link)
            for failure in sorted(failures & SET_UP_FAILURES)
            if not config.problem_code
        ]
        lost = sum(
            row["count"]
            for row in rows
            if row["is_unanswered"] and row["status"] == SessionStatus.OPEN and not row["failure"]
        )
        if lost and not notes and not config.problem_code:
            who = "One person" if lost == 1 else f"{lost:,} people"
            notes.append(
                Note(
                    "warn",
                    f"{who} went to {config.provider_name} and did not come back.",
                    "If it shows them an error, the redirect URI in its console is not the one on the provider page. "
                    "Compare the two to the last character.",
                    *link,
                )
            )
        return notes


def _is_about_an_old_secret(row: Mapping[str, Any], config: ProviderConfig) -> bool:
    replaced_at = config.secret_set_at
    return row["failure"] == "unreadable_secret" and replaced_at is not None and row["latest"] < replaced_at


def _admin_words(failure: str) -> str:
    return FAILURES[failure].admin if failure in FAILURES else failure.replace("_", " ")
