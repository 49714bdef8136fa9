"""Django admin of people and of groups of staff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import AdminUserCreationForm
from django.contrib.auth.models import Group
from django.db import models
from django.utils.html import format_html

from portal.admin_base import PortalAdmin, ReadOnlyInline
from portal.models import Membership, User

if TYPE_CHECKING:
    from django.http import HttpRequest


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
    # Tick boxes: Django's widget with two lists describes its icons in a way that screen readers trip over.
    filter_horizontal = ()
    formfield_overrides: ClassVar = {models.ManyToManyField: {"widget": forms.CheckboxSelectMultiple}}
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

    filter_horizontal = ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Leave it to superusers."""
        return _is_superuser(request)

    has_add_permission = has_delete_permission = has_change_permission


def _is_superuser(request: HttpRequest) -> bool:
    return bool(request.user.is_active and getattr(request.user, "is_superuser", False))
