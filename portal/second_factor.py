"""Second factors: required where the operator says so, and set up without leaving a secret in clear in the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allauth.core import context
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.totp.internal.auth import SECRET_SESSION_KEY, generate_totp_secret
from allauth.mfa.utils import decrypt, encrypt, is_mfa_enabled
from django import forms
from django.conf import settings
from django.contrib import messages
from django.shortcuts import redirect

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

    from portal.models import User

# Where who has no second factor yet may go: to set one up, and out.
OPEN_PAGES = ("account_", "mfa_", "usersessions_", "socialaccount_")


class SecondFactorMiddleware:
    """Lead whoever must have a second factor and has none to where it is set up, before anything else (H8)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on."""
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        """Redirect from a page that needs a login; what end users and programs reach has nothing to do with it."""
        # With its namespace: Django admin has pages of its own that are called mfa_… and account_….
        name = request.resolver_match.view_name if request.resolver_match else ""
        is_for_members = getattr(view, "login_required", True) and not name.startswith(OPEN_PAGES)
        if not is_for_members or not must_have_second_factor(request) or is_mfa_enabled(request.user):
            return None
        messages.warning(request, "This portal asks for a second step when you sign in. Set one up to go on.")
        return redirect("mfa_index")


def must_have_second_factor(request: HttpRequest) -> bool:
    """Tell whether the signed-in person must have a second factor, by REQUIRE_SECOND_FACTOR."""
    if settings.REQUIRE_SECOND_FACTOR == "off" or not request.user.is_authenticated:
        return False
    return settings.REQUIRE_SECOND_FACTOR == "everyone" or request.user.is_staff


class SealedActivateTOTPForm(ActivateTOTPForm):  # type: ignore[misc]
    """allauth's form, which keeps the new secret in the session until a code proves it: sealed in ours.

    Sessions are rows of the database, and no secret lies there in clear (rule 1).
    """

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        # Past allauth's own __init__, whose only other work is to write the secret into the session in clear.
        forms.Form.__init__(self, *args, **kwargs)
        self.user = user
        session = context.request.session
        sealed = session.get(SECRET_SESSION_KEY) if self.is_bound else None
        if sealed:
            self.secret = decrypt(sealed)
        else:
            self.secret = generate_totp_secret()
            session[SECRET_SESSION_KEY] = encrypt(self.secret)
