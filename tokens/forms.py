"""Forms of connections: the rules of input, said so that they help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import ValidationError

if TYPE_CHECKING:
    from providers.models import ProviderConfig

# End users with this prefix are members of ours who test; no application's own id may look like one.
TEST_PREFIX = "member:"


class ConnectLinkForm(forms.Form):
    """A connect link for one end user."""

    provider = forms.ChoiceField(widget=forms.RadioSelect, error_messages={"required": "Choose a provider."})
    end_user = forms.CharField(
        max_length=200,
        label="End user",
        help_text="Your application's own id for the person, such as user-4711. The connection is found by it.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}),
        error_messages={"required": "Say whose connection it will be."},
    )
    label = forms.CharField(
        max_length=200,
        required=False,
        help_text="A name that your colleagues recognise. The person does not see it.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    return_url = forms.CharField(
        max_length=2000,
        required=False,
        label="Return URL",
        help_text="Where the person goes afterwards, on one of the allowed origins under Settings.",
        widget=forms.URLInput(
            attrs={"placeholder": "https://app.example.com/settings", "autocomplete": "off"}
        ),
    )

    def __init__(self, *args: Any, configs: list[ProviderConfig], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.configs = {config.provider_id: config for config in configs}
        provider = self.fields["provider"]
        assert isinstance(provider, forms.ChoiceField)
        provider.choices = [(config.provider_id, config.provider_name) for config in configs]
        if len(configs) == 1:
            # Nothing to choose: the page names it instead.
            provider.widget = forms.HiddenInput()
            self.initial.setdefault("provider", configs[0].provider_id)

    def clean_end_user(self) -> str:
        """Keep ids of test connections apart from end users'."""
        end_user: str = self.cleaned_data["end_user"]
        if end_user.startswith(TEST_PREFIX):
            raise ValidationError(
                f"Ids that begin with “{TEST_PREFIX}” are kept for test connections. Use another one."
            )
        return end_user

    @property
    def config(self) -> ProviderConfig:
        """Return the chosen configuration of a valid form."""
        return self.configs[self.cleaned_data["provider"]]
