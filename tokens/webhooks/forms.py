"""The forms of webhook endpoints."""

from __future__ import annotations

import re
from datetime import timedelta
from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.html import format_html

from portal.models import WebhookType
from portal.models.webhooks import MessageStatus
from portal.origins import OriginError, normalise_origin
from providers import http

# How long an earlier secret signs too.
OVERLAPS = {"24": "for 24 hours", "168": "for 7 days", "0": "not at all: it may have leaked"}

# With the names that the payload has for them.
TYPE_CHOICES = [
    (kind.value, format_html("<span>{} <code>{}</code></span>", kind.label, kind.value))
    for kind in WebhookType
]


class EndpointForm(forms.Form):
    """An address, a name for it, and what it wants to be told of."""

    name = forms.CharField(
        max_length=80,
        help_text="What people here call it, such as “production back end”.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": "Give the endpoint a name, so that you know it again."},
    )
    url = forms.CharField(
        max_length=2000,
        label="URL",
        help_text="Where we POST to, such as <code>https://app.example.com/webhooks</code>.",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false", "inputmode": "url"}
        ),
        error_messages={"required": "Say where the messages go, such as https://app.example.com/webhooks."},
    )
    types = forms.MultipleChoiceField(
        label="Tell it when",
        choices=TYPE_CHOICES,
        initial=WebhookType.values,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one thing that it is told of."},
    )

    def clean_url(self) -> str:
        """Accept what the door to the outside would let through, as far as an address alone tells (E2, E3)."""
        url: str = self.cleaned_data["url"].strip()
        try:
            return checked_url(url)
        except OriginError as error:
            raise ValidationError(f"This address {error}.") from None


class RotateForm(forms.Form):
    """How long the earlier secret goes on signing."""

    hours = forms.ChoiceField(
        choices=list(OVERLAPS.items()),
        label="The present secret signs too",
        help_text="Every message then carries two signatures, and your back end can change over in its own time.",
    )

    @property
    def overlap(self) -> timedelta:
        """Return for how long."""
        return timedelta(hours=int(self.cleaned_data["hours"]))


class LogForm(forms.Form):
    """Which messages of an endpoint to show."""

    status = forms.ChoiceField(
        required=False, label="Status", choices=[("", "Any status"), *MessageStatus.choices]
    )


def checked_url(url: str) -> str:
    """Return an endpoint's address with its origin as browsers write it. Raises OriginError.

    http goes only to hosts that the operator allowed to be private, and only where plain http is allowed at all.
    """
    if re.search(r"[\s\\\x00-\x1f\x7f]", url) or not url.isascii():
        raise OriginError("has a space, a backslash or a letter beyond ASCII in it; write it percent-encoded")
    if "#" in url:
        raise OriginError("has a # in it, and what follows is never sent; write it without")
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
    except ValueError:
        raise OriginError("is not an address; write it like https://app.example.com/webhooks") from None
    is_private = http.may_be_private(host)
    is_plain = parts.scheme == "http" and settings.EGRESS_PLAIN_HTTP and is_private
    if parts.scheme != "https" and not is_plain:
        raise OriginError("must begin with https://; nobody on the way is to read or change what we send")
    origin = normalise_origin(f"https://{parts.netloc}")
    if _is_address(host) and not is_private and not http.is_public(host):
        raise OriginError(
            "is not on the internet; the operator of this portal can allow it (EGRESS_PRIVATE_HOSTS)"
        )
    if host == "localhost" and not is_private:
        raise OriginError("is this portal's own machine; write the address that the internet knows")
    if is_plain:
        origin = "http" + origin.removeprefix("https") + (":443" if parts.port == 443 else "")
    return origin + (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _is_address(host: str) -> bool:
    try:
        http.is_public(host)
    except ValueError:
        return False
    return True
