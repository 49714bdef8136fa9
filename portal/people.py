"""How people get in: allauth's hooks, as few as possible."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, ClassVar

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from django.conf import settings

from portal.encryption import Place, key_ring

if TYPE_CHECKING:
    from django.http import HttpRequest

# Second factors are sealed without naming a row: allauth hands over the text alone.
MFA_PLACE = Place(table="mfa_authenticator", column="data", row="", tenant="portal")


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Accounts are made by invitation; links start with PUBLIC_URL."""

    error_messages: ClassVar[dict[str, Any]] = {
        **DefaultAccountAdapter.error_messages,
        "email_password_mismatch": "There is no account with this e-mail address and this password. Check both, and try again.",
        "too_many_login_attempts": "Too many wrong tries. Wait five minutes, then try again, or reset the password.",
        "incorrect_password": "This is not your password. Try again.",
        "rate_limited": "Too many tries. Wait a minute, then try again.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Close the sign-up page: people come by an invitation."""
        return False

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send, with the portal's name and address in place of the Host header's."""
        context["current_site"] = {"name": "Developer portal", "domain": settings.PUBLIC_URL}
        super().send_mail(template_prefix, email, context)

    def get_reset_password_from_key_url(self, key: str) -> str:
        """Start the link with PUBLIC_URL (A11)."""
        return self._on_public_url(super().get_reset_password_from_key_url(key))

    def get_email_confirmation_url(self, request: HttpRequest, emailconfirmation: Any) -> str:
        """Start the link with PUBLIC_URL (A11)."""
        return self._on_public_url(super().get_email_confirmation_url(request, emailconfirmation))

    @staticmethod
    def _on_public_url(url: str) -> str:
        path = "/" + url.split("://", 1)[-1].split("/", 1)[-1]
        return f"{settings.PUBLIC_URL}{path}"


class SocialAccountAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]
    """Signing in with a provider is for people who already have an account and linked it."""

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        """Make no accounts from a provider's word."""
        return False


class MFAAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Second factors are encrypted at rest like every other secret."""

    error_messages: ClassVar[dict[str, Any]] = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": "This code is not right, or no longer. Enter the one that the app shows now.",
    }

    def encrypt(self, text: str) -> str:
        """Seal a TOTP secret or a recovery seed."""
        return base64.b64encode(key_ring().seal(text, MFA_PLACE)).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Open what `encrypt` made. Raises UnreadableError."""
        return key_ring().unseal(base64.b64decode(encrypted_text), MFA_PLACE)
