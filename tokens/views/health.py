"""Health: how well refreshing goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import render
from django.views.decorators.http import require_safe

from portal.access import application_for
from providers.models import ProviderConfig
from tokens import health
from tokens.incidents import incidents_of
from tokens.spans import HOUR, SPANS

if TYPE_CHECKING:
    from django.http import HttpResponse

    from portal.requests import PortalRequest


@require_safe
def health_page(request: PortalRequest, slug: str) -> HttpResponse:
    """Show how refreshing goes in the last hour, day or week, of one provider or all; htmx asks for that part alone."""
    application = application_for(request, slug)
    span = SPANS.get(request.GET.get("span", ""), HOUR)
    configs = list(ProviderConfig.objects.visible_to(application))
    for config in configs:
        config.application = application
    chosen = [config for config in configs if config.provider_id == request.GET.get("provider")] or configs
    measured = health.measure(chosen, span)
    context = {
        "health": measured,
        "spans": SPANS.values(),
        "configs": configs,
        "chosen": chosen[0] if len(chosen) < len(configs) else None,
        "attention": health.attention(application, chosen, measured.now),
        "incidents": incidents_of(chosen, span.starts_of(measured.now)[0]),
    }
    return render(request, "tokens/health.html" + ("#live" if request.htmx else ""), context)
