"""Django admin of people, applications, keys and the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.utils.html import format_html

from portal import admin_accounts  # noqa: F401
from portal.admin_base import (
    HistoryAdmin,
    PortalAdmin,
    Question,
    ReadOnlyInline,
    ask,
    in_chunks,
    link_to_list,
    link_to_subject,
)
from portal.audit import record, staff_of
from portal.audit_log import in_words
from portal.csv_export import csv_response
from portal.members import lock_members
from portal.models import Application, AuditEvent, Event, Invitation, KeyCheck, Membership, Role, User

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

EXPORT_COLUMNS = (
    "when", "application", "event", "kind", "who", "from where", "what", "detail", "subject", "request",
)  # fmt: skip


class UserCreationForm(AdminUserCreationForm):  # type: ignore[type-arg]
    """A new person: the address is the name."""

    class Meta:
        model = User
        fields = ("email", "name")


class UserChangeForm(forms.ModelForm):  # type: ignore[type-arg]
    """A person, without a word about the password (G1)."""

    class Meta:
        model = User
        fields = ("email", "name", "is_active", "is_staff", "is_superuser", "groups")


class MembershipOfUser(ReadOnlyInline):
    """The applications of a person."""

    model = Membership
    fields = ("application", "role", "created_at")
    readonly_fields = fields
    verbose_name_plural = "applications"
    show_change_link = False


@admin.register(User)
class UserAdmin(DjangoUserAdmin, PortalAdmin):  # type: ignore[type-arg]
    """The people of the portal. Nobody is deleted: an account that is not active can't sign in.

    What staff may do is said by groups, not for one person at a time.
    """

    form = UserChangeForm
    add_form = UserCreationForm
    ordering = ("email",)
    list_display = ("email", "name", "is_active", "is_staff", "is_superuser", "date_joined", "last_login")
    list_filter = ("is_active", "is_staff", "is_superuser", "groups")
    search_fields = ("email", "name")
    date_hierarchy = "date_joined"
    readonly_fields = ("password_set", "date_joined", "last_login")
    inlines = (MembershipOfUser,)
    fieldsets = (
        (None, {"fields": ("email", "name", "password_set", "is_active")}),
        ("Staff", {"fields": ("is_staff", "is_superuser", "groups")}),
        ("When", {"fields": ("date_joined", "last_login")}),
    )
    add_fieldsets = (
        (
            None,
            {"classes": ("wide",), "fields": ("email", "name", "usable_password", "password1", "password2")},
        ),
    )
    filter_horizontal = ("groups",)
    _STAFF_FIELDS: ClassVar = ("is_staff", "is_superuser", "groups")

    @admin.display(description="password")
    def password_set(self, user: User) -> str:
        """Tell whether there is one, and where to set another: nothing of it is shown."""
        word = "set" if user.has_usable_password() else "not set"
        return format_html('{} <a href="../password/">Set another</a>', word)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: what a person did stays theirs."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Leave staff accounts to superusers, so that nobody becomes one by way of another's password."""
        may = super().has_change_permission(request, obj)
        return may and (obj is None or _is_superuser(request) or not (obj.is_staff or obj.is_superuser))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Let superusers alone say who is staff."""
        fields = super().get_readonly_fields(request, obj)
        return fields if _is_superuser(request) else (*fields, *self._STAFF_FIELDS)


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin):
    """What groups of staff may do; superusers alone change it."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Leave it to superusers."""
        return _is_superuser(request)

    has_add_permission = has_delete_permission = has_change_permission


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and getattr(request.user, "is_superuser", False))


class MembershipFormSet(forms.BaseInlineFormSet):  # type: ignore[type-arg]
    """Members of an application: one of them stays its owner."""

    def clean(self) -> None:
        """Refuse to leave an application without an owner."""
        super().clean()
        if any(self.errors) or not self.has_changed():
            return
        kept = [
            form for form in self.forms if form not in self.deleted_forms and form.cleaned_data.get("user")
        ]
        if not any(form.cleaned_data["role"] == Role.OWNER for form in kept):
            raise ValidationError("Every application needs an owner. Make somebody an owner first.")


class MembershipForm(forms.ModelForm):  # type: ignore[type-arg]
    """A role; whose it is, is chosen once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            user = self.fields["user"]
            user.disabled = True
            # The one name that it shows is here already: no statement a row.
            user.widget = forms.Select(choices=[(self.instance.user_id, str(self.instance.user))])


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]
    """The members, and who becomes one: how staff help an application whose owner has left."""

    model = Membership
    form = MembershipForm
    formset = MembershipFormSet
    fields = ("user", "role", "created_at")
    readonly_fields = ("created_at",)
    autocomplete_fields = ("user",)
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        """Bring the people along."""
        return super().get_queryset(request).select_related("user")


@admin.register(Application)
class ApplicationAdmin(PortalAdmin):
    """Applications. They are made, changed and deleted in the portal; staff look after the members."""

    list_display = ("name", "slug", "owners", "created_at", "archived_at", "connections", "audit_events")
    list_filter = ("archived_at",)
    search_fields = ("name", "slug", "memberships__user__email")
    date_hierarchy = "created_at"
    fields = (
        "name",
        "slug",
        "return_origins",
        "created_at",
        "archived_at",
        "connections",
        "providers",
        "audit_events",
    )
    readonly_fields = fields
    inlines = (MembershipInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Application]:
        """Bring the members along."""
        return super().get_queryset(request).prefetch_related("memberships__user")

    @admin.display(description="owners")
    def owners(self, application: Application) -> str:
        """Name the owners."""
        return ", ".join(str(one.user) for one in application.memberships.all() if one.role == Role.OWNER)

    @admin.display(description="connections")
    def connections(self, application: Application) -> str:
        """Lead to its connections."""
        return link_to_list("tokens_grant", "connections", application__id__exact=application.pk)

    @admin.display(description="providers")
    def providers(self, application: Application) -> str:
        """Lead to its provider configurations."""
        return link_to_list(
            "providers_providerconfig", "provider configurations", application__id__exact=application.pk
        )

    @admin.display(description="audit log")
    def audit_events(self, application: Application) -> str:
        """Lead to what was done in it."""
        return link_to_list("portal_auditevent", "audit events", application_id=application.pk)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: an application is made in the portal, by its owner."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: deleting asks for its name, in the portal."""
        return False

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:  # noqa: FBT001
        """Save the members, and write down who did it."""
        application = form.instance
        lock_members(application)
        super().save_formset(request, form, formset, change)
        actor = staff_of(request)
        for one in formset.new_objects:
            record(
                Event.MEMBER_JOINED,
                actor=actor,
                application=application,
                subject=one,
                subject_name=str(one.user),
                role=one.role,
            )
        for one, fields in formset.changed_objects:
            record(
                Event.MEMBER_ROLE_CHANGED,
                actor=actor,
                application=application,
                subject=one,
                subject_name=str(one.user),
                role=one.role,
                changed=fields,
            )
        for one in formset.deleted_objects:
            record(
                Event.MEMBER_REMOVED,
                actor=actor,
                application=application,
                subject_name=str(one.user),
                role=one.role,
            )


@admin.register(Membership)
class MembershipAdmin(HistoryAdmin):
    """Who is a member of what; changed on the application's page."""

    list_display = ("user", "application", "role", "created_at")
    list_filter = ("role",)
    list_select_related = ("user", "application")
    search_fields = ("user__email", "user__name", "application__name")
    date_hierarchy = "created_at"
    fields = ("user", "application", "role", "created_at")


@admin.register(Invitation)
class InvitationAdmin(HistoryAdmin):
    """Invitations; of the link's token nothing is shown."""

    list_display = ("email", "application", "role", "invited_by", "created_at", "expires_at", "accepted_at")
    list_filter = ("role", "accepted_at")
    list_select_related = ("application", "invited_by")
    search_fields = ("email", "application__name")
    date_hierarchy = "created_at"
    fields = ("email", "application", "role", "invited_by", "created_at", "expires_at", "accepted_at")


@admin.register(AuditEvent)
class AuditEventAdmin(HistoryAdmin):
    """Who did what. The database itself refuses to change it."""

    list_display = ("at", "event", "who", "ip_address", "what", "application", "in_words")
    list_filter = ("event", "actor_kind")
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
    fields = ("at", "event", "who", "ip_address", "what", "application", "in_words", "request_id")
    readonly_fields = ("who", "what", "application", "in_words")
    actions = ("export",)

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
        if page := ask(self, request, rows, action="export", question=question):
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


@admin.register(KeyCheck)
class KeyCheckAdmin(HistoryAdmin):
    """Which encryption keys are in use, by id."""

    list_display = ("key_id", "created_at")
    fields = ("key_id", "created_at")


@admin.register(LogEntry)
class LogEntryAdmin(HistoryAdmin):
    """What staff changed in Django admin."""

    list_display = ("action_time", "user", "content_type", "object", "message")
    list_filter = ("action_flag",)
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
