"""allauth's forms, with the labels written as on the portal's other pages."""

from __future__ import annotations

from typing import Any

from allauth.account import forms

LABELS = {
    "Email": "E-mail",
    "Current Password": "Current password",
    "New Password": "New password",
    "New Password (again)": "New password (again)",
}


class OurLabels:
    """A mixin: what allauth calls a field is looked up, and shown as it is where it is ours already."""

    fields: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.label = LABELS.get(str(field.label), field.label)


class LoginForm(OurLabels, forms.LoginForm):  # type: ignore[misc]
    """Sign in."""


class AddEmailForm(OurLabels, forms.AddEmailForm):  # type: ignore[misc]
    """Add an address."""


class ChangePasswordForm(OurLabels, forms.ChangePasswordForm):  # type: ignore[misc]
    """Change the password, knowing the present one."""


class ResetPasswordForm(OurLabels, forms.ResetPasswordForm):  # type: ignore[misc]
    """Ask for a link that resets the password."""


class ResetPasswordKeyForm(OurLabels, forms.ResetPasswordKeyForm):  # type: ignore[misc]
    """Choose a new password, coming from such a link."""
