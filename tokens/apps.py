"""App configuration."""

from django.apps import AppConfig


class TokensConfig(AppConfig):
    """Grants: connected, kept fresh, handed out, taken back."""

    name = "tokens"
    verbose_name = "Connections"

    def ready(self) -> None:
        """Have grants taken back before what they belong to is deleted."""
        from portal.applications import before_delete as before_application_goes
        from providers.remove import before_delete as before_provider_goes
        from tokens.revoke import revoke_all_of_application, revoke_all_of_provider
        from tokens.webhooks.endpoints import delete_all_of_application

        before_application_goes.append(delete_all_of_application)
        before_application_goes.append(revoke_all_of_application)
        before_provider_goes.append(revoke_all_of_provider)
