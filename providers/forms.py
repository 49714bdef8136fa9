"""The form that a provider is added and changed with."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError

from providers.scope_choice import ScopeChoice

if TYPE_CHECKING:
    from providers.models import ProviderConfig
    from providers.spec import ProviderSpec

CLIENT_ID_LENGTH = 512
SECRET_LENGTH = 4096
# What comes along when one copies from a web page: spaces of all kinds, line breaks, and marks without width.
_AROUND = " \t\r\n\f\v\u00a0\u2007\u202f\u3000\u200b\u200c\u200d\u2060\ufeff"


class CredentialField(forms.CharField):
    """A pasted ID or secret: what surrounds it is dropped, what can't be one is refused with the reason."""

    def __init__(self, *, length: int, **kwargs: Any) -> None:
        super().__init__(strip=False, **kwargs)
        self.length = length

    def to_python(self, value: Any) -> str:
        return (super().to_python(value) or "").strip(_AROUND)

    def run_validators(self, value: Any) -> None:
        what = f"The {(self.label or 'value')[0].lower()}{(self.label or 'value')[1:]}"
        if re.search(r"\s", value):
            raise ValidationError(
                f"{what} has a space or line break inside. Copy it again, with nothing else."
            )
        if not value.isascii() or not value.isprintable():
            raise ValidationError(
                f"{what} has characters that none has, such as “{_first_odd(value)}”. Copy it again."
            )
        if len(value) > self.length:
            raise ValidationError(
                f"{what} has {len(value)} characters; more than {self.length} cannot be right. Copy it again."
            )


class ScopesField(forms.Field):
    """The names of chosen scopes, as they were sent."""

    widget = forms.CheckboxSelectMultiple

    def to_python(self, value: Any) -> list[str]:
        return [str(name) for name in value or []]


class ProviderForm(forms.Form):
    """Client ID, client secret and scopes of one provider, new or to change.

    `cleaned_data["scopes"]` is in the catalog's order, with the required ones. What merely looks unusual is saved, with
    a remark; what would cost connections is refused once, and saved when `is_sure` is ticked.
    """

    # Our sentences say more than the browser's.
    use_required_attribute = False

    client_id = CredentialField(
        label="Client ID",
        length=CLIENT_ID_LENGTH,
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    client_secret = CredentialField(
        label="Client secret",
        length=SECRET_LENGTH,
        # "new-password": no password manager should fill in or keep this one.
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "spellcheck": "false"}),
    )
    scopes = ScopesField(required=False)
    is_sure = forms.BooleanField(required=False, label="Save it anyway")

    def __init__(
        self, spec: ProviderSpec, *args: Any, config: ProviderConfig | None = None, **kwargs: Any
    ) -> None:
        self.spec, self.config = spec, config
        # What would cost something, each a sentence: the form is valid only if the person is sure.
        self.doubts: list[str] = []
        # What looks unusual, each a sentence to say after saving: Atlassian may change the look of its IDs any day.
        self.remarks: list[str] = []
        super().__init__(*args, **kwargs)
        client_id, client_secret = self.fields["client_id"], self.fields["client_secret"]
        client_id.error_messages["required"] = f"Paste the client ID. {self._where}"
        client_id.help_text = self._where
        client_secret.error_messages["required"] = f"Paste the client secret. {self._where}"
        client_secret.help_text = (
            "Stored encrypted. Nobody can read it again, not even you; you can replace it."
        )
        if config is not None:
            client_id.initial = config.client_id
            client_secret.required = False
            client_secret.label = "New client secret"
            client_secret.help_text += " Leave it empty to keep the present one."

    @property
    def _where(self) -> str:
        return self.spec.credentials_place

    @property
    def scope_choice(self) -> ScopeChoice:
        """Return the scopes to show, with what is chosen now."""
        if self.is_bound:
            chosen = set(self["scopes"].value() or [])
        elif self.config is not None:
            chosen = set(self.config.scopes)
        else:
            chosen = {scope.name for scope in self.spec.scopes.values() if scope.is_default}
        return ScopeChoice.of(self.spec, chosen)

    def clean_client_id(self) -> str:
        value = str(self.cleaned_data["client_id"])
        if self.spec.secret_prefix and value.startswith(self.spec.secret_prefix):
            raise ValidationError(
                "This looks like the client secret. Paste it into the field below, and the client ID here."
            )
        return value

    def clean_scopes(self) -> list[str]:
        sent, offered = self.cleaned_data["scopes"], self.spec.scopes
        problems = [
            f"“{name}” breaks {self.spec.name}'s consent page, so it cannot be asked for."
            if name in self.spec.forbidden_scopes
            else f"“{name[:60]}” is not a scope that can be chosen here."
            for name in dict.fromkeys(sent)
            if name not in offered
        ]
        problems += [f"“{name[:60]}” is chosen twice." for name, count in Counter(sent).items() if count > 1]
        chosen = {*sent, *self.spec.required_scopes}
        products = [group for group in self.spec.scope_groups if group.is_product and group.scopes]
        if products and not any(scope.name in chosen for group in products for scope in group.scopes):
            names = " or ".join(group.name for group in products if not group.is_all_more)
            problems.append(
                f"Choose at least one scope of {names}: without one there is nothing to connect to."
            )
        if problems:
            raise ValidationError(problems)
        return [name for name in offered if name in chosen]

    def clean(self) -> None:
        client_id, secret = self.cleaned_data.get("client_id"), self.cleaned_data.get("client_secret")
        if client_id and secret and client_id == secret:
            hint = (
                f" Secrets of new apps begin with {self.spec.secret_prefix}."
                if self.spec.secret_prefix
                else ""
            )
            self.add_error("client_secret", f"This is the client ID, pasted twice.{hint}")
        elif client_id:
            self._doubt(client_id, secret or "")
        if self.errors and self.cleaned_data.get("client_secret"):
            self.add_error(
                "client_secret", "Paste the client secret again: it never comes back to this page."
            )

    def _doubt(self, client_id: str, secret: str) -> None:
        pattern, name = self.spec.client_id_pattern, self.spec.name
        is_new = self.config is None or client_id != self.config.client_id
        if pattern and is_new and not re.fullmatch(pattern, client_id):
            self.remarks.append(
                f"A client ID of {name} usually has {self.spec.client_id_words}; this one looks different. "
                "If connecting fails, copy it again."
            )
        if pattern and secret and re.fullmatch(pattern, secret):
            self.remarks.append("The client secret looks like a client ID. If connecting fails, replace it.")
        if self.config is not None and is_new:
            count = self.config.live_grants().count()
            if count:
                people = "1 connection was" if count == 1 else f"{count} connections were"
                self.doubts.append(
                    f"{people} made with the present client ID. Another app cannot refresh them: "
                    f"those people must connect again."
                )
        if self.doubts and not self.cleaned_data.get("is_sure"):
            self.add_error("is_sure", " ".join(self.doubts) + " If it is right, tick this and save.")


def _first_odd(value: str) -> str:
    odd = next(letter for letter in value if not letter.isascii() or not letter.isprintable())
    return odd if odd.isprintable() else f"U+{ord(odd):04X}"
