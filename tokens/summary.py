"""Is an application's OAuth well? The few numbers and notes that Overview shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import DateTimeField, Func

from providers.models import ProviderConfig
from tokens import browse, chart, spans
from tokens.clock import database_now
from tokens.connection_counts import ConnectionCounts, count_connections
from tokens.failed_connects import DAY, Connects, FailedConnects
from tokens.incidents import incidents_of
from tokens.models import Grant
from tokens.notes import Note, config_notes, grant_notes, recovery_notes, webhook_notes
from tokens.state import GrantState, describe

if TYPE_CHECKING:
    import datetime as dt

    from portal.models import Application

LATEST = 8
TONES = ("bad", "warn", "quiet", "good")


@dataclass(frozen=True)
class Summary:
    """All of it, at `now` on the database's clock."""

    now: dt.datetime
    configs: list[ProviderConfig]
    counts: ConnectionCounts
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
    counts = count_connections(application, configs)
    connects = Connects(application, configs, now)
    return Summary(
        now=now,
        configs=configs,
        counts=counts,
        chart=_chart(configs, now),
        notes=[
            *config_notes(configs),
            *connects.notes(),
            *webhook_notes(application),
            *grant_notes(application, counts),
            *recovery_notes(application, incidents_of(configs, now - DAY)),
        ],
        failed_connects=connects.failed(),
        latest=_latest(application, configs, now),
    )


def _chart(configs: list[ProviderConfig], now: dt.datetime) -> chart.Chart:
    counts = spans.read(spans.DAY, now, [config.pk for config in configs])
    return chart.draw(chart.pairs_of(counts), now)


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
