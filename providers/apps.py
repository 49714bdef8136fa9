"""App configuration."""

from django.apps import AppConfig


class ProvidersConfig(AppConfig):
    """What a provider is and how to speak to it."""

    name = "providers"
    verbose_name = "OAuth providers"

    def ready(self) -> None:
        """Register the system checks."""
        from providers import checks  # noqa: F401
