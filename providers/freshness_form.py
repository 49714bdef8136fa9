"""The form that says which connections are kept fresh, and how hard the provider may be called for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms

from providers.models import Freshness

if TYPE_CHECKING:
    from providers.models import ProviderConfig

MOST_DAYS = 365
MOST_CALLS = 10_000
# What each choice means for those who use tokens, and for those whose connection it is.
WHY = {
    Freshness.ALWAYS: (
        "Every connection is refreshed before its token runs out, so a token is there at once, also after months. "
        "That makes the most exchanges with {name}, and each is one that can be lost on the way."
    ),
    Freshness.USED: (
        "The same, as long as a connection's token was asked for in the last days. One that rests is left alone: when "
        "its token is asked for again, the first call waits a moment for {name}."
    ),
    Freshness.ON_DEMAND: (
        "A connection is refreshed when its token is asked for. That makes the fewest exchanges, so the least can be "
        "lost; but each first call in an hour waits for {name}, and fails while {name} is down."
    ),
}


class FreshnessForm(forms.Form):
    """A policy with its days, and limits; a limit that is left empty is the catalog's."""

    freshness = forms.ChoiceField(label="Keep fresh", choices=Freshness.choices, widget=forms.RadioSelect)
    fresh_days = forms.IntegerField(
        label="Used within so many days",
        min_value=1,
        max_value=MOST_DAYS,
        required=False,
        help_text="Counts with “Fresh if used lately”. Connecting counts as use.",
    )
    max_parallel = forms.IntegerField(
        label="Token requests under way", min_value=1, max_value=MOST_CALLS, required=False
    )
    max_per_second = forms.IntegerField(
        label="Token requests a second", min_value=1, max_value=MOST_CALLS, required=False
    )

    def __init__(self, config: ProviderConfig, *args: Any, **kwargs: Any) -> None:
        kwargs["initial"] = {name: getattr(config, name) for name in self.base_fields}
        super().__init__(*args, **kwargs)
        self.config = config
        limits = config.spec.limits
        self.fields["max_parallel"].help_text = f"Left empty: {limits.parallel}."
        self.fields["max_per_second"].help_text = (
            f"Left empty: {limits.per_second}." if limits.per_second else "Left empty: no limit."
        )

    @property
    def options(self) -> list[dict[str, Any]]:
        """Return the choices with what they mean."""
        chosen = self["freshness"].value()
        return [
            {
                "value": one.value,
                "label": one.label,
                "why": WHY[one].format(name=self.config.provider_name),
                "is_chosen": one == chosen,
            }
            for one in Freshness
        ]

    def clean_fresh_days(self) -> int:
        return int(self.cleaned_data["fresh_days"] or self.config.fresh_days)
