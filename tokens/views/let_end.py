"""The page on which somebody says that connections which were refused all at once really are over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from portal.access import Permission, application_for
from portal.audit import member_of
from providers.models import ProviderConfig
from providers.spec import Outcome
from tokens import backlog
from tokens.guard import let_end
from tokens.models import Grant, GrantStatus

if TYPE_CHECKING:
    from django.http import HttpResponse

    from portal.requests import PortalRequest


@require_http_methods(["GET", "HEAD", "POST"])
def provider_let_end(request: PortalRequest, slug: str, provider_id: str) -> HttpResponse:
    """Let connections end whose end is held, after saying what that means."""
    # The role is looked at first, so that a stranger gets the usual 404 instead of the question for the password.
    application = application_for(request, slug, Permission.MANAGE_PROVIDERS)
    configs = ProviderConfig.objects.visible_to(application).select_related("application")
    response: HttpResponse = _let_end(request, get_object_or_404(configs, provider_id=provider_id))
    return response


@reauthentication_required  # type: ignore[untyped-decorator]  # A borrowed browser must not be enough (G10).
def _let_end(request: PortalRequest, config: ProviderConfig) -> HttpResponse:
    if request.method == "POST":
        if let_end(config, actor=member_of(request)):
            messages.success(
                request,
                f"Connections that {config.provider_name} refuses end now. The first of them within a minute or so.",
            )
        else:
            messages.info(request, "No connection's end is held any more, so nothing was changed.")
        return redirect(config)
    refused = Grant.objects.filter(
        application=config.application,
        provider_config=config,
        status=GrantStatus.ACTIVE,
        fail_outcome=Outcome.GRANT_DEAD,
    )[: backlog.MOST + 1].count()
    context = {"config": config, "refused": refused}
    return render(request, "tokens/provider_let_end.html", context)
