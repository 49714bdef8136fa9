"""Connect: what the application's developers paste."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import render
from django.views.decorators.http import require_safe

from portal.access import application_for
from providers.catalog_loader import catalog
from providers.models import ProviderConfig
from tokens.guide import needs, snippets

if TYPE_CHECKING:
    from django.http import HttpResponse

    from portal.requests import PortalRequest


@require_safe
def connect_guide(request: PortalRequest, slug: str) -> HttpResponse:
    """Show what is missing and the code to paste, for one provider at a time."""
    application = application_for(request, slug)
    configs = list(ProviderConfig.objects.visible_to(application))
    for config in configs:
        config.application = application
    asked = request.GET.get("provider")
    chosen = next((config for config in configs if config.provider_id == asked), None) or next(
        iter(sorted(configs, key=lambda config: not config.is_working)), None
    )
    found = needs(application, chosen)
    context = {
        "configs": configs,
        "chosen": chosen,
        "needs": found,
        "is_ready": all(need.is_there for need in found),
        "snippets": snippets(application, chosen) if chosen and chosen.provider_id in catalog() else [],
    }
    return render(request, "tokens/connect_guide.html", context)
