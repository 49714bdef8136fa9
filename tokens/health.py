"""How well refreshing goes: what the Health page shows, of an application or of all of them.

A handful of statements, none of which reads every connection: counts by minute and half hour, and for what is due or
wants attention a small index each, counted only so far.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings
from django.utils import timezone

from providers.catalog_loader import catalog
from providers.models import STOPPING_PROBLEMS, ProviderConfig
from providers.spec import Outcome
from tokens import backlog, chart, latency_chart, spans, tally
from tokens.clock import database_now
from tokens.clocks import SKEW
from tokens.gate import PROBE_EVERY, REFUSALS_STOP
from tokens.models import Grant, GrantStatus
from tokens.notes import Note, config_notes
from tokens.results import UNREADABLE
from tokens.state import GrantState, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portal.models import Application
    from tokens.backlog import Backlog
    from tokens.chart import Bar, Chart
    from tokens.latency_chart import LatencyChart
    from tokens.spans import Counts, Span
    from tokens.tally import Tally

SHOWN_OF_A_KIND = 8
# A backlog older than this is more than the pause between two proposals of beat.
LATE = dt.timedelta(seconds=max(60, 4 * settings.REFRESH_INTERVAL_S))
FAILURES: dict[str, tuple[str, str]] = {
    Outcome.GRANT_DEAD: ("Refused: access has ended", "The person must connect again."),
    Outcome.CLIENT_BAD: ("Client ID or secret refused", "Replace the secret on the provider page."),
    Outcome.NOT_SENT: ("Not reached", "No connection (DNS, TLS, refused). Nothing was spent; tried again."),
    Outcome.THROTTLED: ("Asked to slow down", "We wait as long as the provider says."),
    Outcome.AMBIGUOUS: (
        "No usable answer",
        "Time-out, reset or server error. Tried again with the same token.",
    ),
    UNREADABLE: ("Could not be decrypted", "An encryption key is missing, or rows are damaged."),
}


@dataclass(frozen=True)
class ConfigHealth:
    """One configuration: whether calls go through, and how they went."""

    config: ProviderConfig
    breaker: GrantState
    tally: Tally
    backlog: Backlog

    @property
    def calls(self) -> str:
        """Return how many calls are under way, and how many may be."""
        limits = catalog()[self.config.provider_id].limits if self.config.provider_id in catalog() else None
        parallel = self.config.max_parallel or (limits.parallel if limits else 0)
        per_second = self.config.max_per_second or (limits.per_second if limits else 0)
        said = f"{self.backlog.under_way:,} of {parallel:,} calls under way"
        return f"{said}, {per_second:,} a second at most" if per_second else said


@dataclass(frozen=True)
class FailureClass:
    """How often attempts failed in one way."""

    name: str
    meaning: str
    count: int
    # Of the most frequent one, in percent: the length of its bar.
    share: int


@dataclass(frozen=True)
class Health:
    """All of it, at `now` on the database's clock."""

    now: dt.datetime
    span: Span
    providers: list[ConfigHealth]
    tally: Tally
    backlog: Backlog
    chart: Chart
    latency_chart: LatencyChart | None
    failures: list[FailureClass]
    notes: list[Note]

    @property
    def state(self) -> GrantState:
        """Return the whole in a word."""
        tones = [note.tone for note in self.notes] + [provider.breaker.tone for provider in self.providers]
        if "bad" in tones:
            return GrantState("bad", "Something is broken")
        if "warn" in tones or self.backlog.attention:
            return GrantState("warn", "Needs attention")
        is_working = any(provider.config.is_working for provider in self.providers)
        return GrantState("good", "All well") if is_working else GrantState("quiet", "Nothing runs")

    @property
    def attempts_words(self) -> str:
        """Return of how many attempts the share is."""
        return f"of {self.tally.total:,} refresh" + ("" if self.tally.total == 1 else "es")

    @property
    def oldest_words(self) -> str:
        """Return for how long the oldest has been due."""
        return f"the oldest for {said(self.backlog.oldest)}" if self.backlog.oldest else "nothing waits"

    @property
    def per_minute(self) -> str:
        """Return how many refreshes a minute there were, in the whole span."""
        rate = self.tally.total / (self.span.count * self.span.minutes_a_step)
        if rate >= 10 or not rate:
            return f"{rate:,.0f}"
        if rate < 0.01:
            return "< 0.01"
        return f"{rate:.1f}" if rate >= 0.1 else f"{rate:.2f}"

    @property
    def rows(self) -> list[tuple[Bar, list[str]]]:
        """Return the rows of the table that says what the charts say."""
        words = self.latency_chart.words if self.latency_chart else {}
        return [(bar, words.get(bar.starts_at, [""] * 3)) for bar in self.chart.busy_bars]


def measure(configs: Sequence[ProviderConfig], span: Span) -> Health:
    """Gather the health of some configurations (their applications loaded), in two statements."""
    ids = [config.pk for config in configs]
    backlogs = backlog.of(ids)
    now = next((one.now for one in backlogs.values()), None) or database_now()
    counts = spans.read(span, now, ids)
    providers = [
        ConfigHealth(
            config, breaker_of(config, now), tally.of(counts.by_config[config.pk]), backlogs[config.pk]
        )
        for config in configs
        # One that was deleted just now.
        if config.pk in backlogs
    ]
    histograms = {step: tally.of(slices).latencies for step, slices in counts.by_step.items()}
    return Health(
        now=now,
        span=span,
        providers=providers,
        tally=tally.added([provider.tally for provider in providers]),
        backlog=backlog.added([provider.backlog for provider in providers], now),
        chart=chart.draw(chart.pairs_of(counts), now, span, is_rate=True, width=latency_chart.WIDTH),
        latency_chart=latency_chart.draw(histograms, now, span),
        failures=_failures(counts),
        notes=[*config_notes(configs), *_backlog_notes(providers), *_clock_notes(now, providers)],
    )


def breaker_of(config: ProviderConfig, now: dt.datetime) -> GrantState:
    """Say in a word whether calls to a provider go through, and what happens if not. The rules are tokens/gate.py's."""
    if not config.is_working:
        return GrantState("quiet", "Switched off", "Nothing is refreshed or handed out.")
    if config.provider_id not in catalog():
        return GrantState(
            "quiet", "Not in the catalog", "Nothing is refreshed until its catalog file is back."
        )
    is_refused = config.endings_held_since is not None and config.refused_in_a_row >= REFUSALS_STOP
    if config.problem_code in STOPPING_PROBLEMS or is_refused:
        every = f"{PROBE_EVERY.total_seconds():.0f}"
        return GrantState(
            "bad",
            "Breaker open",
            f"One call is tried every {every} seconds until it answers; the others wait.",
        )
    if config.paused_until is not None and config.paused_until > now:
        return GrantState(
            "warn", "Waiting", f"Asked to slow down: no calls until {config.paused_until:%H:%M:%S} UTC."
        )
    if config.problem_code:
        return GrantState("warn", "Breaker closed", config.problem_message)
    if config.misses_in_a_row:
        times = "once" if config.misses_in_a_row == 1 else f"{config.misses_in_a_row:,} times in a row"
        return GrantState(
            "warn", "Breaker closed", f"Calls go through. The last got no usable answer, {times}."
        )
    return GrantState("good", "Breaker closed", "Calls go through.")


def attention(
    application: Application, configs: Sequence[ProviderConfig], now: dt.datetime
) -> list[tuple[Grant, GrantState]]:
    """Return the connections that need somebody, the worst first, a few of each kind; one statement."""
    by_id = {config.pk: config for config in configs}
    ours = Grant.objects.filter(application=application, provider_config__in=list(by_id)).order_by()
    failing = ours.filter(status=GrantStatus.ACTIVE).exclude(fail_outcome="")
    kinds = [
        failing.filter(fail_outcome=UNREADABLE)[:SHOWN_OF_A_KIND],
        ours.filter(status=GrantStatus.NEEDS_RECONNECT)[:SHOWN_OF_A_KIND],
        failing.exclude(fail_outcome=UNREADABLE)[:SHOWN_OF_A_KIND],
        ours.filter(status=GrantStatus.PENDING)[:SHOWN_OF_A_KIND],
    ]
    found = []
    for grant in kinds[0].union(*kinds[1:], all=True):
        grant.application, grant.provider_config = application, by_id[grant.provider_config_id]
        found.append((grant, describe(grant, now)))
    order = ["bad", "warn", "quiet", "good"]
    return sorted(found, key=lambda row: (order.index(row[1].tone), row[1].word, row[0].end_user))


def _failures(counts: Counts) -> list[FailureClass]:
    by_outcome: defaultdict[str, int] = defaultdict(int)
    for slices in counts.by_config.values():
        for one in slices:
            if one.outcome != Outcome.OK:
                by_outcome[one.outcome] += one.count
    most = max(by_outcome.values(), default=0)
    return [
        FailureClass(
            *FAILURES.get(outcome, (outcome.replace("_", " ").capitalize(), "")),
            count=count,
            share=max(1, round(count / most * 100)),
        )
        for outcome, count in sorted(by_outcome.items(), key=lambda item: (-item[1], item[0]))
    ]


def _backlog_notes(providers: list[ConfigHealth]) -> list[Note]:
    notes = []
    for provider in providers:
        late = provider.backlog.oldest
        # Where calls are held back there is a note that says so.
        if late is None or late < LATE or provider.breaker.tone != "good":
            continue
        notes.append(
            Note(
                "warn",
                f"{provider.config.provider_name}: {provider.backlog.due_words} overdue, the oldest by {said(late)}.",
                "The workers do not keep up, or none is running. Look whether worker and beat run; start more workers.",
                "",
                "",
            )
        )
    return notes


def _clock_notes(now: dt.datetime, providers: list[ConfigHealth]) -> list[Note]:
    skew = abs(timezone.now() - now)
    notes = []
    if skew > SKEW:
        title = f"This machine's clock and the database's differ by {said(skew)}."
        text = "Nothing is decided on this machine's clock, but times on pages are off. Let both follow a time server."
        notes.append(Note("warn", title, text, "", ""))
    ahead = {
        one.config.provider_name: dt.timedelta(seconds=one.backlog.clock_ahead_s)
        for one in providers
        if one.backlog.clock_ahead_s is not None
    }
    for name, difference in ahead.items():
        if abs(difference) > SKEW:
            how = "ahead of" if difference > dt.timedelta() else "behind"
            title = f"{name}'s clock is {said(abs(difference))} {how} the database's."
            text = (
                "If other clocks agree with it, the database's machine is wrong: let it follow a time server."
            )
            notes.append(Note("warn", title, text, "", ""))
    return notes


def said(length: dt.timedelta) -> str:
    """Say a length of time as people do: "40 s", "12 min", "3 h", "2 days"."""
    seconds = round(length.total_seconds())
    for size, unit, least in ((86400, "days", 36 * 3600), (3600, "h", 5400), (60, "min", 90)):
        if seconds >= least:
            return f"{round(seconds / size)} {unit}"
    return f"{seconds} s"
