"""Django admin of applications, their members and invitations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError

# Django looks for admin.py alone: these register the rest of this app.
from portal import admin_accounts, admin_api_keys, admin_audit, admin_people, admin_webhooks  # noqa: F401
from portal.admin_base import HistoryAdmin, PortalAdmin, link_to_list, worded
from portal.admin_filters import whether_filter
from portal.audit import record, staff_of
from portal.members import lock_members, withdraw_invitations_of
from portal.models import Application, Event, Invitation, Membership, Role

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest


class MembershipFormSet(forms.BaseInlineFormSet):  # type: ignore[type-arg]
    """Members of an application: one of them stays its owner."""

    def clean(self) -> None:
        """Refuse to leave an application without an owner."""
        super().clean()
        # The page is saved in one transaction, so nobody changes the members between this look and the writing.
        lock_members(self.instance)
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
    fields = ("user", "role", "since")
    readonly_fields = ("since",)
    since = worded("created_at", "since")
    autocomplete_fields = ("user",)
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        """Bring the people along."""
        return super().get_queryset(request).select_related("user")


@admin.register(Application)
class ApplicationAdmin(PortalAdmin):
    """Applications. They are made, changed and deleted in the portal; staff look after the members."""

    list_display = (
        "name",
        "short_name",
        "owners",
        "created_at",
        "archived_at",
        "connections",
        "audit_events",
    )
    list_filter = (("archived_at", whether_filter("archived")),)
    search_fields = ("name", "slug", "memberships__user__email")
    date_hierarchy = "created_at"
    fields = (
        "name",
        "short_name",
        "return_origins",
        "created_at",
        "archived_at",
        "connections",
        "providers",
        "audit_events",
    )
    readonly_fields = fields
    inlines = (MembershipInline,)
    short_name = worded("slug", "short name")

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
        super().save_formset(request, form, formset, change)
        actor = staff_of(request)
        for one in formset.new_objects:
            record(
                Event.MEMBER_JOINED,
                actor=actor,
                application=application,
                subject=one,
                subject_name=str(one.user),
                role=Role(one.role).label,
            )
        for one, fields in formset.changed_objects:
            record(
                Event.MEMBER_ROLE_CHANGED,
                actor=actor,
                application=application,
                subject=one,
                subject_name=str(one.user),
                role=Role(one.role).label,
                changed=fields,
            )
        for one in formset.deleted_objects:
            record(
                Event.MEMBER_REMOVED,
                actor=actor,
                application=application,
                subject_name=str(one.user),
                role=Role(one.role).label,
            )
            withdraw_invitations_of(one.user, application, actor=actor)


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

    list_display = ("address", "application", "role", "invited_by", "created_at", "expires_at", "accepted_at")
    list_filter = ("role", ("accepted_at", whether_filter("accepted")))
    list_select_related = ("application", "invited_by")
    search_fields = ("email", "application__name")
    date_hierarchy = "created_at"
    fields = ("address", "application", "role", "invited_by", "created_at", "expires_at", "accepted_at")
    readonly_fields = ("address",)
    address = worded("email", "e-mail address")
