"""Overview: is it well?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import render
from django.views.decorators.http import require_safe

from portal.access import application_for
from tokens.summary import summarise

if TYPE_CHECKING:
    from django.http import HttpResponse

    from portal.requests import PortalRequest


@require_safe
def application_overview(request: PortalRequest, slug: str) -> HttpResponse:
    """Show an application's health; htmx asks for the changing part alone."""
    application = application_for(request, slug)
    summary = summarise(application)
    template = "tokens/overview.html"
    if request.htmx:
        template += "#health"
    return render(request, template, {"summary": summary, "counts": summary.counts})
