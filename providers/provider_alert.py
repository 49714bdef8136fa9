"""What an application's owners were last told of a provider by e-mail."""

from __future__ import annotations

from django.db import models


class ProviderAlert(models.Model):
    """The last mail about one provider configuration; none was sent while there is no row.

    It is apart from the configuration, whose row refreshes touch.
    """

    provider_config = models.OneToOneField(
        "providers.ProviderConfig", primary_key=True, on_delete=models.CASCADE, related_name="alert"
    )
    # The problem that the owners know of; "" once they were told that it works again.
    told_problem = models.CharField(max_length=64, blank=True)
    problem_told_at = models.DateTimeField(null=True, blank=True)
    # Tries since the last mail that a mail server took, and when the next may be: while one is being sent, too.
    failed_tries = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.told_problem or "works"
