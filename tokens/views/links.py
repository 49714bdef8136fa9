"""Make connect links: for an end user, for a reconnect, and for a member's own test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from portal.access import Permission, application_for
from portal.audit import member_of
from providers.catalog_loader import UnknownProviderError, catalog
from providers.models import ProviderConfig
from tokens.connect import connect_url, open_session
from tokens.errors import BadReturnUrlError, BadSessionRequestError, TokenError
from tokens.forms import TEST_PREFIX, ConnectLinkForm
from tokens.models import Confirmation, GrantStatus
from tokens.views.grants import grant_of

if TYPE_CHECKING:
    import uuid

    from django.http import HttpResponse

    from portal.models import Application, User
    from portal.requests import PortalRequest


@require_http_methods(["GET", "HEAD", "POST"])
def grant_create(request: PortalRequest, slug: str) -> HttpResponse:
    """Make a connect link. It is shown in the answer to the POST, once: only its digest is stored."""
    application = application_for(request, slug, Permission.MANAGE_GRANTS)
    configs = _working_configs(application)
    form = ConnectLinkForm(
        request.POST or None, configs=configs, initial={"end_user": request.GET.get("end_user", "")}
    )
    if request.method == "POST" and configs and form.is_valid():
        fields = {name: form.cleaned_data[name] for name in ("end_user", "label", "return_url")}
        try:
            session, token = open_session(
                form.config,
                confirmation=Confirmation.MEMBER,
                actor=member_of(request),
                created_by=request.user,
                **fields,
            )
        except BadReturnUrlError as error:
            form.add_error("return_url", error.message)
        except BadSessionRequestError as error:
            form.add_error("end_user", error.message)
        except TokenError as error:
            form.add_error(None, error.message)
        else:
            context = {"session": session, "config": form.config, "url": connect_url(token)}
            return render(request, "tokens/grant_link.html", context)
    status = 422 if form.is_bound and form.errors else 200
    return render(request, "tokens/grant_create.html", {"form": form, "configs": configs}, status=status)


@require_POST
def grant_reconnect(request: PortalRequest, slug: str, pk: uuid.UUID) -> HttpResponse:
    """Make a link that repairs one connection, and show it once."""
    application = application_for(request, slug, Permission.OPERATE_GRANTS)
    grant = grant_of(application, pk)
    if grant.status == GrantStatus.REVOKED:
        messages.error(
            request, "This connection is revoked and cannot be reconnected. Make a new connect link instead."
        )
        return redirect(grant)
    is_own_test = grant.end_user == test_end_user(request.user)
    try:
        session, token = open_session(
            grant.provider_config,
            end_user=grant.end_user,
            confirmation=Confirmation.LOGIN if is_own_test else Confirmation.MEMBER,
            actor=member_of(request),
            created_by=request.user,
            reconnect_grant=grant,
        )
    except TokenError as error:
        messages.error(request, error.message)
        return redirect(grant)
    except UnknownProviderError:
        messages.error(request, _NO_CATALOG_FILE)
        return redirect(grant)
    context = {"session": session, "config": grant.provider_config, "url": connect_url(token), "grant": grant}
    return render(request, "tokens/grant_link.html", context)


@require_POST
def provider_connect(request: PortalRequest, slug: str, provider_id: str) -> HttpResponse:
    """Start a test connection for the member who asks, bound to this login."""
    application = application_for(request, slug, Permission.MANAGE_GRANTS)
    config = get_object_or_404(ProviderConfig.objects.visible_to(application), provider_id=provider_id)
    config.application = application
    try:
        _, token = open_session(
            config,
            end_user=test_end_user(request.user),
            confirmation=Confirmation.LOGIN,
            actor=member_of(request),
            created_by=request.user,
            label=f"Test by {request.user.get_full_name()}",
        )
    except TokenError as error:
        messages.error(request, error.message)
        return redirect(config)
    except UnknownProviderError:
        messages.error(request, _NO_CATALOG_FILE)
        return redirect("provider-list", slug)
    return redirect("connect-page", token)


_NO_CATALOG_FILE = "This provider is no longer in the catalog, so nobody can connect it. Put its file back (PROVIDER_CATALOG_DIRS)."


def test_end_user(user: User) -> str:
    """Return the end user that a member's own test connections belong to."""
    return f"{TEST_PREFIX}{user.pk}"


def _working_configs(application: Application) -> list[ProviderConfig]:
    configs = [
        config for config in ProviderConfig.objects.visible_to(application) if config.provider_id in catalog()
    ]
    for config in configs:
        config.application = application
    return [config for config in configs if config.is_working]
