"""The pages of OAuth providers: list, gallery, add, change, disable, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.http import Http404
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from portal.access import Permission, application_for, is_allowed
from portal.audit import member_of
from portal.instance import is_foreign
from providers import configure
from providers.catalog_loader import catalog
from providers.forms import ProviderForm
from providers.freshness_form import FreshnessForm
from providers.models import ProviderConfig, redirect_uri_for
from providers.remove import remove
from providers.scope_choice import ScopeChoice
from providers.state import describe

if TYPE_CHECKING:
    from django.http import HttpResponse

    from portal.models import Application
    from portal.requests import PortalRequest
    from providers.spec import ProviderSpec


@require_safe
def provider_list(request: PortalRequest, slug: str) -> HttpResponse:
    """Show which providers the application has, and how they stand."""
    application = application_for(request, slug)
    configs = (
        ProviderConfig.objects.visible_to(application).with_connections().select_related("secret_set_by")
    )
    rows = []
    for config in configs:
        config.application = application
        rows.append({"config": config, "state": describe(config), "spec": catalog().get(config.provider_id)})
    return render(request, "providers/provider_list.html", {"rows": rows})


@require_safe
def provider_gallery(request: PortalRequest, slug: str) -> HttpResponse:
    """Show what can be added; `q` and `category` narrow it."""
    application = application_for(request, slug, Permission.MANAGE_PROVIDERS)
    added = set(application.provider_configs.values_list("provider_id", flat=True))
    words, category = request.GET.get("q", "").lower().split(), request.GET.get("category", "")
    specs = sorted(catalog().values(), key=lambda spec: spec.name.lower())
    entries = [
        {"spec": spec, "is_added": spec.id in added}
        for spec in specs
        if category in ("", spec.category)
        and all(word in f"{spec.name} {spec.id} {spec.category} {spec.tagline}".lower() for word in words)
    ]
    context = {
        "entries": entries,
        "categories": sorted({spec.category for spec in specs}),
        "category": category,
        "query": request.GET.get("q", ""),
    }
    return render(request, "providers/provider_gallery.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def provider_add(request: PortalRequest, slug: str, provider_id: str) -> HttpResponse:
    """Add a provider: its facts, the console's steps, credentials and scopes."""
    application = application_for(request, slug, Permission.MANAGE_PROVIDERS)
    spec = _spec_or_404(provider_id)
    if request.method != "POST" and application.provider_configs.filter(provider_id=provider_id).exists():
        messages.info(request, f"{spec.name} is already added to {application.name}. This is its page.")
        return redirect("provider-detail", slug, provider_id)
    form = ProviderForm(spec, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            config = configure.add(
                application,
                spec,
                client_id=form.cleaned_data["client_id"],
                client_secret=form.cleaned_data["client_secret"],
                scopes=form.cleaned_data["scopes"],
                user=request.user,
                actor=member_of(request),
            )
        except configure.AlreadyAddedError:
            form.add_error(
                None,
                f"{application.name} has {spec.name} already: it was added in another tab or by a colleague, "
                "and one application has one. Open it under OAuth Providers to change it.",
            )
        else:
            messages.success(request, "The provider is now active.")
            _say_remarks(request, form)
            return redirect(config)
    return _form_page(request, "providers/provider_add.html", application, spec, form)


def _say_remarks(request: PortalRequest, form: ProviderForm) -> None:
    for remark in form.remarks:
        messages.warning(request, remark)


@require_http_methods(["GET", "HEAD", "POST"])
def provider_detail(request: PortalRequest, slug: str, provider_id: str) -> HttpResponse:
    """Show a provider, and let those who may change it."""
    permission = Permission.MANAGE_PROVIDERS if request.method == "POST" else Permission.VIEW
    application = application_for(request, slug, permission)
    config = _config_or_404(application, provider_id)
    spec = catalog().get(provider_id)
    if spec is None or not is_allowed(application, Permission.MANAGE_PROVIDERS):
        context = {**_about(application, config), "spec": spec}
        if spec:
            context |= {"choice": ScopeChoice.of(spec, config.scopes)}
        return render(request, "providers/provider_view.html", context)
    form = ProviderForm(spec, request.POST or None, config=config)
    if request.method == "POST" and form.is_valid():
        before = config.scopes
        changed = configure.change(
            config,
            client_id=form.cleaned_data["client_id"],
            client_secret=form.cleaned_data["client_secret"],
            scopes=form.cleaned_data["scopes"],
            user=request.user,
            actor=member_of(request),
        )
        messages.success(request, _what_changed(config, changed, before))
        _say_remarks(request, form)
        return redirect(config)
    return _form_page(
        request, "providers/provider_detail.html", application, spec, form, **_about(application, config)
    )


@require_POST
def provider_enable(request: PortalRequest, slug: str, provider_id: str) -> HttpResponse:
    """Let a provider work again."""
    application = application_for(request, slug, Permission.MANAGE_PROVIDERS)
    config = _config_or_404(application, provider_id)
    configure.enable(config, actor=member_of(request))
    messages.success(request, f"{config.provider_name} is enabled. Overdue connections are refreshed first.")
    return redirect(config)


@require_http_methods(["GET", "HEAD", "POST"])
def provider_disable(request: PortalRequest, slug: str, provider_id: str) -> HttpResponse:
    """Stop a provider, after saying what that means."""
    application = application_for(request, slug, Permission.MANAGE_PROVIDERS)
    config = _config_or_404(application, provider_id)
    if request.method == "POST":
        configure.disable(config, actor=member_of(request))
        messages.success(request, f"{config.provider_name} is disabled. Its connections are kept.")
        return redirect(config)
    context = {
        "config": config,
        "spec": catalog().get(provider_id),
        "connections": config.live_grants().count(),
    }
    return render(request, "providers/provider_disable.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def provider_delete(request: PortalRequest, slug: str, provider_id: str) -> HttpResponse:
    """Delete a provider with its connections, after saying how many go."""
    # The role is looked at first, so that a stranger gets the usual 404 instead of the question for the password.
    application = application_for(request, slug, Permission.MANAGE_PROVIDERS)
    response: HttpResponse = _delete(request, _config_or_404(application, provider_id))
    return response


@reauthentication_required  # type: ignore[untyped-decorator]  # A borrowed browser must not be enough (G10).
def _delete(request: PortalRequest, config: ProviderConfig) -> HttpResponse:
    # A copy of the database asks nobody.
    can_end = config.can_be_told_to_end and not is_foreign()
    if request.method == "POST":
        count = remove(config, actor=member_of(request))
        gone = {0: "It had no connections.", 1: "1 connection went with it."}
        said = [f"{config.provider_name} is deleted.", gone.get(count, f"{count} connections went with it.")]
        if count and can_end:
            said.append(
                f"{config.provider_name} is now asked to end the access of each; where it does not answer, again for a day."
            )
        messages.success(request, " ".join(said))
        return redirect("provider-list", config.application.slug)
    context = {
        "config": config,
        "spec": catalog().get(config.provider_id),
        "can_end": can_end,
        "connections": config.live_grants().count(),
    }
    return render(request, "providers/provider_delete.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def provider_freshness(request: PortalRequest, slug: str, provider_id: str) -> HttpResponse:
    """Choose which connections are kept fresh, and how hard the provider may be called for them."""
    application = application_for(request, slug, Permission.MANAGE_PROVIDERS)
    config = _config_or_404(application, provider_id)
    spec = _spec_or_404(provider_id)
    form = FreshnessForm(config, request.POST or None)
    if request.method == "POST" and form.is_valid():
        changed = configure.change_freshness(config, **form.cleaned_data, actor=member_of(request))
        if changed:
            messages.success(request, "Saved. Connections follow within a minute or so.")
        else:
            messages.info(request, "Nothing was changed.")
        return redirect(config)
    context = {"config": config, "spec": spec, "form": form}
    return render(request, "providers/provider_freshness.html", context)


def _spec_or_404(provider_id: str) -> ProviderSpec:
    spec = catalog().get(provider_id)
    if spec is None:
        raise Http404("There is no such provider in the catalog.")
    return spec


def _config_or_404(application: Application, provider_id: str) -> ProviderConfig:
    configs = ProviderConfig.objects.visible_to(application).select_related(
        "application", "secret_set_by", "created_by"
    )
    return get_object_or_404(configs, provider_id=provider_id)


def _about(application: Application, config: ProviderConfig) -> dict[str, object]:
    return {
        "config": config,
        "state": describe(config),
        "connections": config.live_grants().count(),
        "with_fewer_scopes": config.grants_with_fewer_scopes().count(),
        "redirect_uri": config.redirect_uri,
    }


def _form_page(
    request: PortalRequest,
    template: str,
    application: Application,
    spec: ProviderSpec,
    form: ProviderForm,
    **context: object,
) -> HttpResponse:
    context |= {
        "spec": spec,
        "form": form,
        "choice": form.scope_choice,
        "redirect_uri": redirect_uri_for(application, spec.id),
    }
    # 422 would be truer, but browsers keep a form's back and reload behaviour only for plain pages.
    return render(request, template, context)


def _what_changed(config: ProviderConfig, changed: list[str], scopes_before: list[str]) -> str:
    """Say what was saved, and what it means for those who are connected."""
    if not changed:
        return "Nothing was changed."
    sentences = ["Saved."]
    if "client_secret" in changed:
        sentences.append("The new client secret is used from now on.")
    if set(config.scopes) - set(scopes_before):
        fewer = config.grants_with_fewer_scopes().count()
        if fewer:
            have = "1 connection has" if fewer == 1 else f"{fewer} connections have"
            sentences.append(
                f"{have} fewer scopes than this: those people must connect again to give the new ones."
            )
    elif "scopes" in changed and config.live_grants().exists():
        sentences.append("People who are connected keep what they gave until they connect again.")
    return " ".join(sentences)
