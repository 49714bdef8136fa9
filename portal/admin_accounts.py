"""Django admin of what allauth keeps: addresses, second factors, sessions. Nothing secret of it is shown (G1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Loading these registers what is replaced below.
import allauth.account.admin
import allauth.mfa.admin
import allauth.socialaccount.admin
import allauth.usersessions.admin  # noqa: F401
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.contrib import admin

from portal.admin_base import HistoryAdmin, worded
from portal.admin_filters import worded_filter
from portal.sessions import end_sessions
from portal.templatetags.words import browser

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

# Tokens and client secrets: settings hold the one, the other is never stored.
for model in (EmailAddress, Authenticator, SocialAccount, SocialApp, SocialToken, UserSession):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


FACTORS = {
    Authenticator.Type.TOTP: "Authenticator app",
    Authenticator.Type.WEBAUTHN: "Passkey",
    Authenticator.Type.RECOVERY_CODES: "Recovery codes",
}
# Whose accounts people can sign in with (settings.py).
SIGN_IN = {"atlassian": "Atlassian"}


class EndableAdmin(HistoryAdmin):
    """What staff can't edit, but may take away."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Leave it to superusers, since with less somebody else's account is easier to enter."""
        return bool(request.user.is_active and getattr(request.user, "is_superuser", False))


@admin.register(EmailAddress)
class EmailAddressAdmin(HistoryAdmin):
    """The addresses that people sign in with."""

    list_display = ("email", "user", "primary", "verified")
    list_filter = ("primary", "verified")
    list_select_related = ("user",)
    search_fields = ("email", "user__name")
    fields = ("email", "user", "primary", "verified")


@admin.register(Authenticator)
class AuthenticatorAdmin(EndableAdmin):
    """Second factors and passkeys. Deleting one helps a person who has lost it."""

    list_display = ("user", "kind", "created_at", "last_used_at")
    list_filter = (("type", worded_filter("second factor", FACTORS)),)
    list_select_related = ("user",)
    search_fields = ("user__email", "user__name")
    date_hierarchy = "created_at"
    fields = ("user", "kind", "created_at", "last_used_at")
    readonly_fields = ("kind",)
    kind = worded("type", "second factor", FACTORS)


@admin.register(SocialAccount)
class SocialAccountAdmin(EndableAdmin):
    """Accounts elsewhere that people sign in with."""

    list_display = ("user", "at", "account", "date_joined", "last_login")
    list_filter = (("provider", worded_filter("provider", SIGN_IN)),)
    list_select_related = ("user",)
    search_fields = ("user__email", "uid")
    fields = ("user", "at", "account", "date_joined", "last_login")
    readonly_fields = ("at", "account")
    at = worded("provider", "provider", SIGN_IN)
    account = worded("uid", "account")


@admin.register(UserSession)
class UserSessionAdmin(EndableAdmin):
    """Where people are signed in. Deleting one signs that browser out."""

    list_display = ("user", "address", "browser", "created_at", "last_seen_at")
    list_select_related = ("user",)
    search_fields = ("user__email", "ip")
    date_hierarchy = "created_at"
    fields = ("user", "address", "browser", "created_at", "last_seen_at")
    readonly_fields = ("address", "browser")
    address = worded("ip", "address")

    @admin.display(description="browser", ordering="user_agent")
    def browser(self, session: UserSession) -> str:
        """Name the browser as the person's own page does."""
        return browser(session.user_agent)

    def delete_model(self, request: HttpRequest, obj: UserSession) -> None:
        """End the session, not only its row here."""
        end_sessions([obj.session_key])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[UserSession]) -> None:
        """End each of the sessions."""
        end_sessions(queryset.values_list("session_key", flat=True))
