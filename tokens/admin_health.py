"""Health over all applications, for staff: a page to read, beside the counts that it is made of."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.template.response import TemplateResponse
from django.views.decorators.http import require_safe

from portal.models import Application
from providers.models import ProviderConfig
from tokens import backlog, health, tally
from tokens.spans import HOUR, SPANS

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.admin import AdminSite
    from django.http import HttpRequest

    from tokens.backlog import Backlog
    from tokens.health import ConfigHealth, Health
    from tokens.tally import Tally

# Of applications and of notes: the worst come first.
MOST_ROWS = 50
PERMISSIONS = ("tokens.view_refreshcount", "tokens.view_grant")


@dataclass(frozen=True)
class Row:
    """Several configurations as one: those of a provider, or of an application."""

    name: str
    key: str
    configs: list[ConfigHealth]
    tally: Tally
    backlog: Backlog

    @property
    def stopped(self) -> int:
        """Return how many of them do not work."""
        return self._count("bad")

    @property
    def held_back(self) -> int:
        """Return how many of them want attention or wait."""
        return self._count("warn")

    @property
    def state(self) -> str:
        """Say how they stand, with a shape."""
        if self.stopped:
            return f"■ {self.stopped} of {len(self.configs)} broken"
        if self.held_back:
            return f"▲ {self.held_back} of {len(self.configs)} held back"
        off = self._count("quiet")
        return f"● {len(self.configs) - off} well" + (f", {off} off" if off else "")

    def _count(self, tone: str) -> int:
        return sum(one.breaker.tone == tone for one in self.configs)

    @property
    def oldest_words(self) -> str:
        """Return for how long the oldest has been due."""
        return health.said(self.backlog.oldest) if self.backlog.oldest else ""


@require_safe
def staff_health(request: HttpRequest, site: AdminSite) -> TemplateResponse:
    """Show the health of every application, or of one provider or application. Raises PermissionDenied."""
    if not all(request.user.has_perm(permission) for permission in PERMISSIONS):
        raise PermissionDenied
    chosen = {name: request.GET.get(name, "") for name in ("provider", "application")}
    configs = ProviderConfig.objects.select_related("application").order_by(
        "application__name", "provider_id"
    )
    if chosen["provider"]:
        configs = configs.filter(provider_id=chosen["provider"])
    if chosen["application"]:
        configs = configs.filter(application__slug=chosen["application"])
    measured = health.measure(list(configs), SPANS.get(request.GET.get("span", ""), HOUR))
    context: dict[str, Any] = {
        **site.each_context(request),
        "title": "Health of all applications",
        "health": measured,
        "spans": SPANS.values(),
        "chosen": chosen,
        "application": Application.objects.filter(slug=chosen["application"]).first(),
        "providers": _rows(measured, lambda one: (one.config.provider_name, one.config.provider_id)),
        "applications": _rows(
            measured, lambda one: (one.config.application.name, one.config.application.slug)
        ),
        "most": MOST_ROWS,
    }
    return TemplateResponse(request, "admin/health.html", context)


def _rows(measured: Health, key: Callable[[ConfigHealth], tuple[str, str]]) -> list[Row]:
    """Add up by provider or application, the worst first."""
    groups: defaultdict[tuple[str, str], list[ConfigHealth]] = defaultdict(list)
    for one in measured.providers:
        groups[key(one)].append(one)
    rows = [
        Row(
            *names,
            configs=configs,
            tally=tally.added([one.tally for one in configs]),
            backlog=backlog.added([one.backlog for one in configs], measured.now),
        )
        for names, configs in groups.items()
    ]
    return sorted(
        rows, key=lambda row: (-row.stopped, -row.held_back, -row.backlog.due, -row.tally.failed, row.name)
    )
