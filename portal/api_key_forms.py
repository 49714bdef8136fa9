"""The forms of API keys: a new one, one that is changed, and one that takes over from another."""

from __future__ import annotations

import datetime as dt
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.html import format_html

from portal.models.api_keys import KeyPermission
from portal.networks import MOST_NETWORKS, NetworkError, normalise_network

if TYPE_CHECKING:
    from portal.models import Application

LIFETIMES = {"30": "30 days", "90": "90 days", "365": "1 year", "730": "2 years"}
# How long both keys of a rotation may be let in, in days.
USUAL_OVERLAP, LONGEST_OVERLAP = 7, 90


def _lifetime_field(label: str = "Good for") -> forms.ChoiceField:
    return forms.ChoiceField(choices=list(LIFETIMES.items()), initial="365", label=label, widget=forms.Select)


class NetworksForm(forms.Form):
    """Where a key may be used from."""

    networks = forms.CharField(
        required=False,
        # Kept as it is, so that the numbers of lines in errors are those on the page.
        strip=False,
        label="Only from these IP ranges",
        help_text="One a line, such as <code>203.0.113.0/24</code>. Leave it empty to allow every address.",
        widget=forms.Textarea(
            attrs={"rows": 2, "spellcheck": "false", "autocapitalize": "off", "class": "mono"}
        ),
    )

    def clean_networks(self) -> list[str]:
        """Return the ranges in their usual spelling, each once; name every line that is wrong."""
        networks: list[str] = []
        errors: list[str] = []
        for number, line in enumerate(self.cleaned_data["networks"].splitlines(), start=1):
            if not line.strip():
                continue
            try:
                networks.append(normalise_network(line))
            except NetworkError as error:
                errors.append(f"Line {number}: “{line.strip()[:80]}” {error}.")
        networks = list(dict.fromkeys(networks))
        if len(networks) > MOST_NETWORKS:
            errors.append(f"These are {len(networks)} ranges; {MOST_NETWORKS} is the most.")
        if errors:
            raise ValidationError(errors)
        return networks


class ChangeApiKeyForm(NetworksForm):
    """A name, and from where: what of a key can be changed."""

    field_order: tuple[str, ...] = ("name", "networks")

    name = forms.CharField(
        max_length=80,
        help_text="Where it will be used, such as “production back end”. The audit log shows this name.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Give the key a name, so that you know it again."},
    )


class ApiKeyForm(ChangeApiKeyForm):
    """The same, and what it may do and for how long."""

    field_order = ("name", "permissions", "provider_ids", "networks", "days")

    permissions = forms.MultipleChoiceField(
        # With the names that the manual and the errors of the API have for them.
        choices=[
            (value, format_html("<span>{} <code>{}</code></span>", label, value))
            for value, label in KeyPermission.choices
            if value != KeyPermission.GRANTS_EXPORT
        ],
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
    days = _lifetime_field()

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


class RotateApiKeyForm(forms.Form):
    """Until when the old key is let in beside the new one, and for how long the new one is good."""

    until = forms.DateField(
        label="The old key works until",
        help_text=f"The end of that day, UTC; at most {LONGEST_OVERLAP} days from now.",
        widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"}),
        error_messages={
            "required": "Say until when the old key works.",
            "invalid": "Give a date, like 2027-03-31.",
        },
    )
    days = _lifetime_field("The new key is good for")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        today = timezone.now().date()
        self.earliest, self.latest = today, today + timedelta(days=LONGEST_OVERLAP)
        kwargs["initial"] = {"until": today + timedelta(days=USUAL_OVERLAP)}
        super().__init__(*args, **kwargs)
        self.fields["until"].widget.attrs |= {"min": f"{self.earliest}", "max": f"{self.latest}"}

    def clean_until(self) -> dt.date:
        """Return a day within reach."""
        until: dt.date = self.cleaned_data["until"]
        if not self.earliest <= until <= self.latest:
            raise ValidationError(f"Choose a day from {self.earliest} to {self.latest}.")
        return until

    @property
    def overlap(self) -> timedelta:
        """Return how long both are let in."""
        end = dt.datetime.combine(self.cleaned_data["until"], dt.time(), tzinfo=dt.UTC) + timedelta(days=1)
        return end - timezone.now()

    @property
    def lifetime(self) -> timedelta:
        """Return how long the new key will be good for."""
        return timedelta(days=int(self.cleaned_data["days"]))
