"""App configuration."""

from django.apps import AppConfig


class TokensConfig(AppConfig):
    """Grants: connected, kept fresh, handed out, taken back."""

    name = "tokens"
    verbose_name = "Connections"
