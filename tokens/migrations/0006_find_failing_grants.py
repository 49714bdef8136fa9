from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # Nobody waits while the index is built.
    atomic = False

    dependencies = [
        ("tokens", "0005_refresh_minutes"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="grant",
            index=models.Index(
                condition=models.Q(("status", "active"), models.Q(("fail_outcome", ""), _negated=True)),
                fields=["application", "provider_config"],
                name="grant_failing",
            ),
        ),
    ]
