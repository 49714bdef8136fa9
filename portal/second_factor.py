"""Setting up an authenticator app without leaving its secret in clear in the session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allauth.core import context
from allauth.mfa.totp.forms import ActivateTOTPForm
from allauth.mfa.totp.internal.auth import SECRET_SESSION_KEY, generate_totp_secret
from allauth.mfa.utils import decrypt, encrypt
from django import forms

if TYPE_CHECKING:
    from portal.models import User


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
