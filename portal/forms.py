"""Forms of applications, members and the audit log: the rules of input, said so that they help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth import password_validation
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.utils.html import format_html

from portal.applications import RESERVED_SLUGS, SLUG_LENGTH, propose_slug
from portal.logo import MAX_BYTES, LogoError, make_logo
from portal.models import Application, Event, Role, User
from portal.origins import OriginError, normalise_origin

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_ORIGINS = 50

ROLE_WORDS = {
    Role.OWNER: "Everything: also makes owners, archives and deletes the application.",
    Role.ADMIN: "Sets up providers, connects and revokes, invites members, changes settings.",
    Role.SUPPORT: "Sees how connections are doing, refreshes them, copies reconnect links.",
    Role.AUDITOR: "Reads everything, the audit log too. Changes nothing.",
}


def _name_field() -> forms.CharField:
    return forms.CharField(
        max_length=80,
        help_text="End users read it when they are asked to connect.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Give the application a name."},
    )


class ApplicationForm(forms.Form):
    """A new application."""

    name = _name_field()
    slug = forms.CharField(
        required=False,
        max_length=SLUG_LENGTH,
        label="Short name",
        help_text="Becomes part of every redirect URI, so it can never be changed. "
        "Leave it empty and it is made from the name.",
        validators=[
            RegexValidator(
                r"^[a-z0-9]+(-[a-z0-9]+)*\Z",
                "Use lower-case letters, digits and single hyphens between them, such as acme-tasks.",
            )
        ],
        widget=forms.TextInput(
            attrs={
                "autocomplete": "off",
                "autocapitalize": "off",
                "spellcheck": "false",
                "data-slug-from": "id_name",
            }
        ),
    )

    def clean_slug(self) -> str:
        """Refuse a slug that is taken, and name one that is free."""
        slug: str = self.cleaned_data["slug"]
        if slug and (slug in RESERVED_SLUGS or Application.objects.filter(slug=slug).exists()):
            raise ValidationError(f"“{slug}” is taken. “{propose_slug(slug)}” is free.")
        return slug

    def clean(self) -> dict[str, Any]:
        """Make the slug from the name where none was given."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("slug") == "" and cleaned.get("name"):
            cleaned["slug"] = propose_slug(cleaned["name"])
        return cleaned


class ApplicationSettingsForm(forms.Form):
    """What can be changed about an application."""

    name = _name_field()
    logo = forms.FileField(
        required=False,
        help_text="PNG, JPEG or WebP, up to 1 MB; it is shrunk to 256 × 256 pixels. Anybody can see it.",
        widget=forms.FileInput(attrs={"accept": "image/png,image/jpeg,image/webp"}),
        error_messages={"empty": "This file is empty. Choose a PNG, JPEG or WebP picture."},
    )
    remove_logo = forms.BooleanField(required=False, label="Remove the logo")
    return_origins = forms.CharField(
        required=False,
        label="Allowed return origins",
        help_text="Where end users may be sent back to after connecting: one origin a line, such as "
        "<code>https://app.example.com</code>, or <code>http://localhost:3000</code> while you try it. "
        "Any other return address is refused.",
        widget=forms.Textarea(
            attrs={"rows": 4, "spellcheck": "false", "autocapitalize": "off", "class": "mono"}
        ),
    )

    def __init__(self, *args: Any, application: Application, **kwargs: Any) -> None:
        kwargs["initial"] = {
            "name": application.name,
            "return_origins": "\n".join(application.return_origins),
        }
        super().__init__(*args, **kwargs)
        if not application.logo_digest:
            del self.fields["remove_logo"]

    def clean_logo(self) -> bytes | None:
        """Return a PNG of our own making, or None where no file was chosen."""
        file = self.cleaned_data["logo"]
        if not file:
            return None
        try:
            return make_logo(file.read(MAX_BYTES + 1))
        except LogoError as error:
            raise ValidationError(str(error)) from None

    def clean_return_origins(self) -> list[str]:
        """Return the origins as browsers write them, each once; name every line that is wrong."""
        origins: list[str] = []
        errors: list[str] = []
        for number, line in enumerate(self.cleaned_data["return_origins"].splitlines(), start=1):
            if not line.strip():
                continue
            try:
                origin = normalise_origin(line)
            except OriginError as error:
                errors.append(f"Line {number}: “{line.strip()[:80]}” {error}.")
            else:
                if origin not in origins:
                    origins.append(origin)
        if len(origins) > MAX_ORIGINS:
            errors.append(f"These are {len(origins)} origins; {MAX_ORIGINS} is the most.")
        if errors:
            raise ValidationError(errors)
        return origins


class DeleteApplicationForm(forms.Form):
    """Type the name, to be sure."""

    name = forms.CharField(
        label="Name of the application", widget=forms.TextInput(attrs={"autocomplete": "off"})
    )

    def __init__(self, *args: Any, application: Application, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.application = application
        self.fields["name"].help_text = format_html(
            "Type <strong>{}</strong> to delete it.", application.name
        )

    def clean_name(self) -> str:
        """Compare what was typed with the name."""
        name: str = self.cleaned_data["name"]
        if name != self.application.name:
            raise ValidationError(
                f"This is not the name. Type “{self.application.name}”, with the same capitals."
            )
        return name


class RoleForm(forms.Form):
    """A role, each with what it may do."""

    role = forms.ChoiceField(widget=forms.RadioSelect, error_messages={"required": "Choose a role."})

    def __init__(self, *args: Any, roles: Iterable[Role], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["role"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [
            (role.value, format_html("<span>{}<br><small>{}</small></span>", role.label, ROLE_WORDS[role]))
            for role in roles
        ]

    def clean_role(self) -> Role:
        """Return the role as one."""
        return Role(self.cleaned_data["role"])


class InviteForm(RoleForm):
    """Whom to invite, as what."""

    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
        error_messages={
            "required": "Say whom to invite.",
            "invalid": "This is not an e-mail address. It looks like jo@example.com.",
        },
    )
    field_order = ["email", "role"]


class NewPersonForm(forms.Form):
    """Name and password of somebody who has no account yet."""

    name = forms.CharField(
        max_length=150,
        label="Your name",
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
        error_messages={"required": "Tell your colleagues who you are."},
    )
    password = forms.CharField(
        strip=False,
        label="Password",
        help_text="At least 12 characters. A few words in a row are easy to remember.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        error_messages={"required": "Choose a password."},
    )
    password_again = forms.CharField(
        strip=False,
        label="Password again",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        error_messages={"required": "Type the password a second time."},
    )

    def __init__(self, *args: Any, email: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.email = email

    def clean(self) -> dict[str, Any]:
        """Hold the password against the validators and against its repetition."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        password, again = cleaned.get("password"), cleaned.get("password_again")
        if password:
            try:
                password_validation.validate_password(
                    password, User(email=self.email, name=cleaned.get("name", ""))
                )
            except ValidationError as error:
                self.add_error("password", error)
        if password and again and password != again:
            self.add_error("password_again", "The two passwords differ. Type the same one twice.")
        return cleaned


class AuditFilterForm(forms.Form):
    """What to look for in the audit log. Comes in the query string."""

    event = forms.ChoiceField(required=False, label="Event")
    who = forms.CharField(required=False, max_length=200, label="Who")
    since = forms.DateField(
        required=False,
        label="From",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        error_messages={"invalid": "Write the date like 2025-03-31."},
    )
    until = forms.DateField(
        required=False,
        label="To",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        error_messages={"invalid": "Write the date like 2025-03-31."},
    )
    text = forms.CharField(
        required=False, max_length=200, label="Text", widget=forms.TextInput(attrs={"type": "search"})
    )

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        field = self.fields["event"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "Every event"), *_events_by_subject()]

    def clean(self) -> dict[str, Any]:
        """Refuse a span of time that ends before it begins."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        since, until = cleaned.get("since"), cleaned.get("until")
        if since and until and until < since:
            self.add_error("until", "This is before the first day. Exchange the two dates.")
        return cleaned


_SUBJECTS = {
    "application": "Application",
    "member": "Members",
    "provider": "Providers",
    "connect": "Connecting",
    "grant": "Connections",
    "token": "Tokens",
    "audit": "Audit log",
}


def _events_by_subject() -> list[tuple[str, list[tuple[str, str]]]]:
    groups: dict[str, list[tuple[str, str]]] = {}
    for event in Event:
        subject = event.value.partition(":")[0]
        groups.setdefault(_SUBJECTS.get(subject, subject.capitalize()), []).append((event.value, event.label))
    return list(groups.items())
