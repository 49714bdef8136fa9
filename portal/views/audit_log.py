"""The audit log: its page and its export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponseBadRequest
from django.shortcuts import render
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from portal.access import Permission, application_for
from portal.audit import member_of, record
from portal.audit_log import AuditFilter, audit_page, every_event, in_words
from portal.csv_export import csv_response
from portal.forms import AuditFilterForm
from portal.models import Event

if TYPE_CHECKING:
    from django.http import HttpResponse
    from django.http.response import HttpResponseBase

    from portal.models import AuditEvent
    from portal.requests import PortalRequest

COLUMNS = ("when", "who", "kind", "from where", "event", "what", "detail", "subject", "request")


@require_safe
def audit_log(request: PortalRequest, slug: str) -> HttpResponse:
    """Show a page of the audit log, newest first."""
    application = application_for(request, slug, Permission.VIEW_AUDIT)
    form = AuditFilterForm(request.GET)
    wanted = AuditFilter(**form.cleaned_data) if form.is_valid() else None
    before, after = _cursor(request, "before"), _cursor(request, "after")
    page = audit_page(application, wanted, before=before, after=after) if wanted else None
    query = {name: request.GET[name] for name in form.fields if request.GET.get(name)}
    context = {
        "form": form,
        "page": page,
        "rows": [(event, in_words(event)) for event in page.events] if page else [],
        "is_filtered": bool(query),
        "query": query,
        "newer_url": _url(query, after=page.newer) if page and page.newer else "",
        "older_url": _url(query, before=page.older) if page and page.older else "",
    }
    return render(request, "portal/audit_log.html", context, status=422 if form.errors else 200)


@require_POST
def audit_export(request: PortalRequest, slug: str) -> HttpResponseBase:
    """Send every matching event as CSV. It is a POST because the export itself is written to the log."""
    application = application_for(request, slug, Permission.VIEW_AUDIT)
    form = AuditFilterForm(request.POST)
    if not form.is_valid():
        return HttpResponseBadRequest(
            "The filter can't be read. Go back and try again.\n", content_type="text/plain"
        )
    wanted = AuditFilter(**form.cleaned_data)
    actor = member_of(request)
    record(
        Event.EXPORTED,
        actor=actor,
        application=application,
        subject_name="audit log",
        filters=wanted.described(),
    )
    return csv_response(
        f"audit-log-{slug}.csv", COLUMNS, (_row(event) for event in every_event(application, wanted))
    )


def _row(event: AuditEvent) -> list[object]:
    return [
        event.at.isoformat(),
        event.actor_name,
        event.actor_kind,
        event.ip_address,
        event.event,
        event.subject_name,
        in_words(event),
        f"{event.subject_kind} {event.subject_id}".strip(),
        event.request_id,
    ]


def _cursor(request: PortalRequest, name: str) -> int | None:
    text = request.GET.get(name, "")
    # Longer than any id: not ours.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _url(query: dict[str, str], **cursor: int | None) -> str:
    return "?" + urlencode(query | {name: value for name, value in cursor.items() if value})
