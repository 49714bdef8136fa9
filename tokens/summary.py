"""Is an application's OAuth well? The few numbers and notes that Overview shows."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Count, DateTimeField, Exists, Func, Max, OuterRef, Q
from django.db.models.functions import Now
from django.urls import reverse

from portal.models import WebhookEndpoint
from providers.models import ProviderConfig
from providers.spec import Outcome
from tokens import browse, chart, spans
from tokens.clock import database_now
from tokens.failures import FAILURES
from tokens.incidents import incidents_of
from tokens.models import AuthorizationRequest, ConnectSession, Grant, GrantStatus
from tokens.models.connect import SessionStatus
from tokens.results import UNREADABLE
from tokens.state import GrantState, describe

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterable, Mapping

    from portal.models import Application
    from tokens.incidents import Incident

DAY = dt.timedelta(hours=24)
WEEK = dt.timedelta(days=7)
LATEST = 8
# Reasons why nobody can connect until an admin has done something; the others are a person's own affair. A refused
# secret or profile is not among them: the configuration reports these itself, and knows when they are over.
SET_UP_FAILURES = {"redirect_uri_not_registered", "scope_not_enabled", "unreadable_secret"}
TONES = ("bad", "warn", "quiet", "good")


@dataclass(frozen=True)
class Note:
    """Something that wants attention, and where to see to it. `permission` is needed to follow the link."""

    tone: str
    title: str
    text: str
    url: str
    action: str
    permission: str = "VIEW"


@dataclass(frozen=True)
class Counts:
    """Connections by what they are, at one moment."""

    alive: int
    working: int
    failing: int
    unreadable: int
    ending: int
    pending: int
    needs_reconnect: int
    this_week: int
    ever: int


@dataclass(frozen=True)
class FailedConnects:
    """How often connecting failed for one reason in the last 24 hours."""

    provider: str
    reason: str
    count: int
    latest: dt.datetime


@dataclass(frozen=True)
class Summary:
    """All of it, at `now` on the database's clock."""

    now: dt.datetime
    configs: list[ProviderConfig]
    counts: Counts
    chart: chart.Chart
    notes: list[Note]
    failed_connects: list[FailedConnects]
    latest: list[tuple[Grant, GrantState]]

    @property
    def state(self) -> GrantState:
        """Return the whole in a word."""
        worst = min((note.tone for note in self.notes), key=TONES.index, default="good")
        if worst == "bad":
            return GrantState("bad", "Something is broken")
        if worst == "warn":
            return GrantState("warn", "Needs attention")
        if not self.counts.ever:
            return GrantState("quiet", "Nothing connected yet")
        if not any(config.is_working for config in self.configs):
            return GrantState("quiet", "Paused")
        return GrantState("good", "All well")


def summarise(application: Application) -> Summary:
    """Gather what Overview shows, in six statements however large the application is."""
    clock = Func(function="clock_timestamp", output_field=DateTimeField())
    configs = list(ProviderConfig.objects.visible_to(application).annotate(now=clock))
    now = configs[0].now if configs else database_now()  # type: ignore[attr-defined]
    for config in configs:
        config.application = application
    counts = _counts(application, configs)
    connects = _Connects(application, configs, now)
    return Summary(
        now=now,
        configs=configs,
        counts=counts,
        chart=_chart(configs, now),
        notes=[
            *config_notes(configs),
            *connects.notes(),
            *_webhook_notes(application),
            *_grant_notes(application, counts),
            *_recovery_notes(application, incidents_of(configs, now - DAY)),
        ],
        failed_connects=connects.failed(),
        latest=_latest(application, configs, now),
    )


def _counts(application: Application, configs: list[ProviderConfig]) -> Counts:
    # By the ids that we have, so that the scan needs no join.
    running = Q(provider_config__in=[config.pk for config in configs if config.is_working])
    active = Q(status=GrantStatus.ACTIVE)
    alive = ~Q(status=GrantStatus.REVOKED)
    return Counts(
        **Grant.objects.visible_to(application).aggregate(
            alive=Count("pk", filter=alive),
            working=Count("pk", filter=active & running & Q(fail_outcome="")),
            failing=Count("pk", filter=active & running & ~Q(fail_outcome__in=["", UNREADABLE])),
            unreadable=Count("pk", filter=active & running & Q(fail_outcome=UNREADABLE)),
            ending=Count("pk", filter=browse.ENDING),
            pending=Count("pk", filter=Q(status=GrantStatus.PENDING)),
            needs_reconnect=Count("pk", filter=Q(status=GrantStatus.NEEDS_RECONNECT)),
            this_week=Count("pk", filter=alive & Q(connected_at__gte=Now() - WEEK)),
            ever=Count("pk"),
        )
    )


def _chart(configs: list[ProviderConfig], now: dt.datetime) -> chart.Chart:
    counts = spans.read(spans.DAY, now, [config.pk for config in configs])
    return chart.draw(pairs_of(counts), now)


def pairs_of(counts: spans.Counts) -> dict[dt.datetime, tuple[int, int]]:
    """Return (refreshed, failed) by the start of each step: what the chart draws."""
    return {
        step: (
            sum(one.count for one in slices if one.outcome == Outcome.OK),
            sum(one.count for one in slices if one.outcome != Outcome.OK),
        )
        for step, slices in counts.by_step.items()
    }


def _latest(
    application: Application, configs: list[ProviderConfig], now: dt.datetime
) -> list[tuple[Grant, GrantState]]:
    by_id = {config.pk: config for config in configs}
    grants = browse.with_site_names(Grant.objects.visible_to(application))[:LATEST]
    found = []
    for grant in grants:
        grant.application, grant.provider_config = application, by_id[grant.provider_config_id]
        found.append((grant, describe(grant, now)))
    return found


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


def _webhook_notes(application: Application) -> list[Note]:
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


def _recovery_notes(application: Application, incidents: list[Incident]) -> list[Note]:
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


def _grant_notes(application: Application, counts: Counts) -> list[Note]:
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


class _Connects:
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
