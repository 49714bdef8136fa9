"""System checks of the configuration."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.exceptions import ImproperlyConfigured

from portal.encryption import key_ring

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@register()
def check_keys_parse(**kwargs: Any) -> list[CheckMessage]:
    """portal.E001: ENCRYPTION_KEYS can be read."""
    try:
        key_ring()
    except ImproperlyConfigured as error:
        return [Error(str(error), id="portal.E001")]
    return []


@register()
def check_public_url(**kwargs: Any) -> list[CheckMessage]:
    """portal.E002, E003: PUBLIC_URL is an origin, and https unless we are on this machine only."""
    url = urlsplit(settings.PUBLIC_URL)
    if url.scheme not in {"http", "https"} or not url.hostname or url.path:
        return [
            Error(
                "PUBLIC_URL must be an origin such as https://portal.example.com, without a path.",
                id="portal.E002",
            )
        ]
    if url.scheme == "http" and not settings.INSECURE_HTTP:
        return [
            Error(
                "PUBLIC_URL must be https. (INSECURE_HTTP=true allows http, for development on one machine.)",
                id="portal.E003",
            )
        ]
    return []


@register()
def check_development_switches(**kwargs: Any) -> list[CheckMessage]:
    """portal.E004: demo, plain http, DEBUG and held moments are for this machine's own address only (G8, H9)."""
    is_local = urlsplit(settings.PUBLIC_URL).hostname in LOOPBACK
    messages: list[CheckMessage] = []
    if not is_local:
        messages += [
            Error(f"{name} is on, but PUBLIC_URL is not on this machine: switch it off.", id="portal.E004")
            for name in ("DEMO", "INSECURE_HTTP", "DEBUG", "FAULT_MOMENTS_DIR")
            if getattr(settings, name)
        ]
    return messages


@register()
def check_allowed_hosts(**kwargs: Any) -> list[CheckMessage]:
    """portal.E005, E006: hosts are named one by one, PUBLIC_URL's among them (H6)."""
    if any(host == "*" or host.startswith(".") for host in settings.ALLOWED_HOSTS):
        return [Error("ALLOWED_HOSTS must name each host: take the wildcard out.", id="portal.E005")]
    if urlsplit(settings.PUBLIC_URL).hostname not in settings.ALLOWED_HOSTS:
        return [
            Error(
                "ALLOWED_HOSTS does not hold the host of PUBLIC_URL, so every page would be refused: add it.",
                id="portal.E006",
            )
        ]
    return []


@register()
def check_second_factor(**kwargs: Any) -> list[CheckMessage]:
    """portal.E009: REQUIRE_SECOND_FACTOR is a word that is known; a typo must not switch it off (H8)."""
    if settings.REQUIRE_SECOND_FACTOR in {"off", "staff", "everyone"}:
        return []
    return [Error("REQUIRE_SECOND_FACTOR must be off, staff or everyone.", id="portal.E009")]


@register()
def check_proxy_deadline(**kwargs: Any) -> list[CheckMessage]:
    """portal.E010: a call through the proxy has time to be made."""
    if settings.PROXY_DEADLINE_S < 1:
        return [Error("PROXY_DEADLINE_S must be at least 1 second.", id="portal.E010")]
    return []


@register()
def check_metrics_token(**kwargs: Any) -> list[CheckMessage]:
    """portal.E007: METRICS_TOKEN cannot be guessed."""
    if settings.METRICS_TOKEN and len(settings.METRICS_TOKEN) < 20:
        return [Error("METRICS_TOKEN is too short: give at least 20 random characters.", id="portal.E007")]
    return []
