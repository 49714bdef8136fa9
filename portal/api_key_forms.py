"""The form of a new API key."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms

from portal.models.api_keys import KeyPermission

if TYPE_CHECKING:
    from portal.models import Application

LIFETIMES = {"30": "30 days", "90": "90 days", "365": "1 year"}


class ApiKeyForm(forms.Form):
    """A name, what it may do, and for how long."""

    name = forms.CharField(
        max_length=80,
        help_text="Where it will be used, such as “production back end”. The audit log shows this name.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Give the key a name, so that you know it again."},
    )
    permissions = forms.MultipleChoiceField(
        choices=KeyPermission.choices,
        widget=forms.CheckboxSelectMultiple,
        help_text="Give it what the program needs and no more.",
        error_messages={"required": "Choose at least one thing that the key may do."},
    )
    provider_ids = forms.MultipleChoiceField(
        required=False,
        label="Only for these providers",
        widget=forms.CheckboxSelectMultiple,
        help_text="Choose none to allow all, those added later too.",
    )
    days = forms.ChoiceField(
        choices=list(LIFETIMES.items()), initial="365", label="Good for", widget=forms.Select
    )

    def __init__(self, *args: Any, application: Application, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        providers = application.provider_configs.order_by("provider_id")
        field = self.fields["provider_ids"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(config.provider_id, config.provider_name) for config in providers]
        if not field.choices:
            del self.fields["provider_ids"]

    @property
    def lifetime(self) -> timedelta:
        """Return how long the key will be good for."""
        return timedelta(days=int(self.cleaned_data["days"]))
