"""Django admin of what was done, and of the keys in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.admin.utils import display_for_value
from django.db.models import OuterRef, Subquery
from django.utils.html import format_html

from portal.admin_base import HistoryAdmin, Question, ask, in_chunks, link_to_list, link_to_subject, worded
from portal.admin_filters import worded_filter
from portal.audit import record, staff_of
from portal.audit_log import in_words
from portal.csv_export import csv_response
from portal.models import AuditEvent, AuditSeal, Event, KeyCheck
from portal.models.audit import ActorKind

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

EXPORT_COLUMNS = (
    "when", "application", "event", "kind", "who", "from where", "what", "detail", "subject", "request",
)  # fmt: skip
CHANGES = {str(ADDITION): "Added", str(CHANGE): "Changed", str(DELETION): "Deleted"}


@admin.register(AuditEvent)
class AuditEventAdmin(HistoryAdmin):
    """Who did what. The database itself refuses to change it."""

    list_display = ("when", "event", "who", "ip_address", "what", "application", "in_words")
    list_filter = ("event", ("actor_kind", worded_filter("who did it", dict(ActorKind.choices))))
    search_fields = (
        "subject_name",
        "actor_name",
        "application_name",
        "=subject_id",
        "=actor_id",
        "=request_id",
    )
    search_help_text = "Who, what, which application; or the exact id of a connection, a person or a request."
    date_hierarchy = "at"
    fields = ("when", "event", "who", "ip_address", "what", "application", "in_words", "request")
    readonly_fields = ("when", "who", "what", "application", "in_words", "request")
    when = worded("at", "when")
    request = worded("request_id", "request ID")
    actions = ("export",)

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Order by what an index has for those who look for one thing, or for an application or a time."""
        return ("-id",) if "subject_id" in request.GET else ("-at", "-id")

    @admin.display(description="who", ordering="actor_name")
    def who(self, event: AuditEvent) -> str:
        """Name the actor, and what kind of one."""
        return f"{event.actor_name} ({event.get_actor_kind_display().lower()})".strip()

    @admin.display(description="what", ordering="subject_name")
    def what(self, event: AuditEvent) -> str:
        """Lead to what it was about."""
        if not event.subject_id:
            return event.subject_name
        return link_to_subject(event.subject_kind, event.subject_id, event.subject_name or event.subject_kind)

    @admin.display(description="application", ordering="application_name")
    def application(self, event: AuditEvent) -> str:
        """Lead to the application."""
        if not event.application_id:
            return ""
        return link_to_subject("application", str(event.application_id), event.application_name)

    @admin.display(description="detail")
    def in_words(self, event: AuditEvent) -> str:
        """Say the detail as people do."""
        return in_words(event)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Let links lead to the events of one thing."""
        allowed = {"application_id", "subject_id", "subject_kind"}
        return lookup in allowed or super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    def has_export_permission(self, request: HttpRequest) -> bool:
        """Ask for a permission of its own (G4)."""
        return request.user.has_perm("portal.export_auditevent")

    @admin.action(description="Export as CSV", permissions=["export"])
    def export(self, request: HttpRequest, rows: QuerySet[AuditEvent]) -> HttpResponseBase:
        """Send the chosen events as CSV, and write that down."""
        question = Question(
            "Export audit events?",
            "The file holds names, addresses and what was done. The export itself is logged.",
            "Export",
        )
        if page := ask(self, request, rows, action="export", question=question, is_sensitive=True):
            return page
        record(Event.EXPORTED, actor=staff_of(request), subject_name="audit events", events=rows.count())
        lines = (
            [
                event.at.isoformat(), event.application_name, event.event, event.actor_kind, event.actor_name,
                event.ip_address, event.subject_name, in_words(event), f"{event.subject_kind} {event.subject_id}".strip(),
                event.request_id,
            ]
            for event in in_chunks(rows)
        )  # fmt: skip
        return csv_response("audit-events.csv", EXPORT_COLUMNS, lines)


@admin.register(AuditSeal)
class AuditSealAdmin(HistoryAdmin):
    """Until when the audit log is sealed. Whether it still is what was sealed, a command tells that reads all of it."""

    list_display = ("sealed", "begins", "ends", "held")
    date_hierarchy = "until"
    ordering = ("-until",)
    fields = list_display
    readonly_fields = list_display
    sealed = worded("sealed_at", "sealed")
    ends = worded("until", "until")

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditSeal]:
        """Bring along where the seal before ends."""
        before = AuditSeal.objects.filter(until__lt=OuterRef("until")).order_by("-until").values("until")[:1]
        rows: QuerySet[AuditSeal] = super().get_queryset(request).annotate(since=Subquery(before))
        return rows

    @admin.display(description="from")
    def begins(self, seal: AuditSeal) -> str:
        """Say from when on it holds events."""
        since = seal.since  # type: ignore[attr-defined]
        return display_for_value(since, "") if since else "the beginning"

    @admin.display(description="audit events", ordering="events")
    def held(self, seal: AuditSeal) -> str:
        """Say how many events it holds, and lead to those that are there."""
        since = seal.since  # type: ignore[attr-defined]
        lookups = {"at__gte": since.isoformat()} if since else {}
        return link_to_list("portal_auditevent", f"{seal.events:,}", at__lt=seal.until.isoformat(), **lookups)


@admin.register(KeyCheck)
class KeyCheckAdmin(HistoryAdmin):
    """Which encryption keys are in use, by id."""

    list_display = ("shown_id", "created_at")
    fields = ("shown_id", "created_at")
    readonly_fields = ("shown_id",)
    shown_id = worded("key_id", "key ID")


@admin.register(LogEntry)
class LogEntryAdmin(HistoryAdmin):
    """What staff changed in Django admin."""

    list_display = ("action_time", "user", "content_type", "object", "message")
    list_filter = (("action_flag", worded_filter("what was done", CHANGES)),)
    list_select_related = ("user", "content_type")
    search_fields = ("object_repr", "user__email")
    date_hierarchy = "action_time"
    fields = ("action_time", "user", "content_type", "object", "message")
    readonly_fields = ("object", "message")

    @admin.display(description="what")
    def object(self, entry: LogEntry) -> str:
        """Lead to what was changed."""
        url = entry.get_admin_url()
        return format_html('<a href="{}">{}</a>', url, entry.object_repr) if url else entry.object_repr

    @admin.display(description="change")
    def message(self, entry: LogEntry) -> str:
        """Name the changed fields, not their values."""
        return entry.get_change_message()
