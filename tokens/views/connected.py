"""The pages after the provider: which sites, and what was connected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import forms
from django.contrib.auth.decorators import login_not_required
from django.db.models import Max
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tokens.clock import database_now
from tokens.confirm import new_return_code
from tokens.connect import choose_sites, waiting_exchange
from tokens.errors import ReturnCodeError
from tokens.failures import ConnectFailedError
from tokens.models import Confirmation, Grant, GrantStatus
from tokens.models.connect import SessionStatus
from tokens.views.browser import (
    actor_at,
    allow_forms_to_leave,
    in_plain_words,
    keeps_its_opener,
    return_url_of,
    session_here,
    with_query,
)
from tokens.views.connect import SeeOther
from tokens.views.failure import allow_authorize, failure_page, is_usable

if TYPE_CHECKING:
    import uuid

    from django.http import HttpRequest, HttpResponse

    from tokens.exchanged import Exchanged
    from tokens.models import ConnectSession

# The exchange at the provider takes seconds; who looks meanwhile is shown the result by itself.
LOOK_AGAIN_AFTER_S = 3


class SitesForm(forms.Form):
    """Which of the sites found the connection is for."""

    sites = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple, error_messages={"required": "Choose at least one site."}
    )

    def __init__(self, exchanged: Exchanged, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        field = self.fields["sites"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(site.cloud_id, site.name) for site in exchanged.sites]


@login_not_required  # The browser that came back from the provider is what lets end users in.
@require_http_methods(["GET", "HEAD", "POST"])
@keeps_its_opener
def connect_sites(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Let the person choose which of several sites the connection is for; never the first one silently."""
    session = session_here(request, pk)
    if session is None:
        return failure_page(request, "not_this_browser")
    result_url = reverse("connect-result", args=[session.pk])
    exchanged = waiting_exchange(session) if session.status == SessionStatus.CHOOSING else None
    if exchanged is None:
        if request.method == "POST":
            return _not_chosen(request, session, result_url)
        return SeeOther(result_url)
    form = SitesForm(exchanged, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            choose_sites(session, form.cleaned_data["sites"], actor=actor_at(request, session))
        except ConnectFailedError as failure:
            return failure_page(
                request, failure.code, session=session, result_url=_done_url(failure, result_url)
            )
        return SeeOther(result_url)
    ticked = set(request.POST.getlist("sites")) if form.is_bound else _sites_to_tick(session, exchanged)
    sites = [{"site": site, "is_ticked": site.cloud_id in ticked} for site in exchanged.sites]
    context = {
        "session": session,
        "application": session.application,
        "spec": session.provider_config.spec,
        "account": exchanged.account,
        "form": form,
        "sites": sites,
    }
    return render(request, "connect/sites.html", context, status=400 if form.errors else 200)


def _not_chosen(request: HttpRequest, session: ConnectSession, result_url: str) -> HttpResponse:
    """Say why a choice that was sent came to nothing: a double click, a second tab, or too late."""
    try:
        choose_sites(session, (), actor=actor_at(request, session))
    except ConnectFailedError as failure:
        return failure_page(request, failure.code, session=session, result_url=_done_url(failure, result_url))
    raise AssertionError("nothing can be chosen without an exchange")


def _done_url(failure: ConnectFailedError, result_url: str) -> str:
    return result_url if failure.code in ("already_chosen", "link_used") else ""


def _sites_to_tick(session: ConnectSession, exchanged: Exchanged) -> set[str]:
    """Return the earlier choice where the same account is connected again, else all of them."""
    found = {site.cloud_id for site in exchanged.sites}
    earlier = (
        Grant.objects.alive()
        .filter(
            provider_config=session.provider_config,
            end_user=session.end_user,
            account_id=exchanged.account.id,
        )
        .first()
    )
    chosen = (
        set(earlier.sites.filter(is_chosen=True).values_list("cloud_id", flat=True)) if earlier else set()
    )
    return (chosen & found) or found


@login_not_required  # As above.
@require_safe
@keeps_its_opener
def connect_result(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Say which account, which sites and how it goes on; or what went wrong."""
    session = session_here(request, pk)
    if session is None:
        return failure_page(request, "not_this_browser")
    if session.status == SessionStatus.CHOOSING:
        return SeeOther(reverse("connect-sites", args=[session.pk]))
    if session.failure:
        return failure_page(request, session.failure, session=session)
    if session.status != SessionStatus.DONE or session.grant is None:
        return _not_finished(request, session)
    grant, spec = session.grant, session.provider_config.spec
    return_url = return_url_of(session)
    context = {
        "session": session,
        "application": session.application,
        "spec": spec,
        "grant": grant,
        "sites": grant.sites.filter(is_chosen=True),
        "missing": in_plain_words(spec, grant.missing_scopes),
        "is_waiting": grant.status == GrantStatus.PENDING,
        "is_revoked": grant.status == GrantStatus.REVOKED,
        "needs_code": session.confirmation == Confirmation.CODE,
        "is_test": session.confirmation == Confirmation.LOGIN,
        "earlier": session.reconnect_grant if session.reconnect_grant_id != grant.pk else None,
        "has_others": _has_others(grant),
        "return_url": with_query(return_url, connect_session=str(session.pk)) if return_url else "",
    }
    response = render(request, "connect/result.html", context)
    if return_url and session.confirmation == Confirmation.CODE:
        allow_forms_to_leave(response, return_url)
    return response


def _has_others(grant: Grant) -> bool:
    """Tell whether the same end user has connected another account as well (A17)."""
    return (
        Grant.objects.alive()
        .filter(provider_config=grant.provider_config_id, end_user=grant.end_user)
        .exclude(pk=grant.pk)
        .exists()
    )


def _not_finished(request: HttpRequest, session: ConnectSession) -> HttpResponse:
    """Show that nothing has come of it yet, and look again by itself while an answer is being taken."""
    attempts = session.authorization_requests
    since = database_now() - session.provider_config.spec.read_timeout * 3
    # What came back before the button was pressed again is over: the person cancelled, say, and then went once more.
    pressed_at = attempts.aggregate(latest=Max("created_at"))["latest"] or since
    is_under_way = attempts.filter(spent_at__gt=max(since, pressed_at)).exists()
    may_go_again = not is_under_way and is_usable(request, session)
    context = {
        "session": session,
        "application": session.application,
        "spec": session.provider_config.spec,
        "is_under_way": is_under_way,
        "may_go_again": may_go_again,
    }
    response = render(request, "connect/waiting.html", context)
    if may_go_again:
        allow_authorize(response, session)
    if is_under_way:
        response["Refresh"] = str(LOOK_AGAIN_AFTER_S)
    return response


@login_not_required  # As above.
@require_POST
@keeps_its_opener
def connect_return(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Go back to the application with a one-time code, which its back end trades for the connection (A5).

    A POST, so that looking at the result makes no code; and no code is on a page, where it could be copied from.
    """
    session = session_here(request, pk)
    if session is None:
        return failure_page(request, "not_this_browser")
    return_url = return_url_of(session)
    if not return_url:
        return SeeOther(reverse("connect-result", args=[session.pk]))
    try:
        code = new_return_code(session)
    except ReturnCodeError:
        return SeeOther(reverse("connect-result", args=[session.pk]))
    response = SeeOther(with_query(return_url, code=code, connect_session=str(session.pk)))
    response["Referrer-Policy"] = "no-referrer"
    return response
