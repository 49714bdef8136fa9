from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # Nobody waits while the indexes are built.
    atomic = False

    dependencies = [
        ("tokens", "0011_upstream_revocations"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="grant",
            index=models.Index(
                condition=models.Q(("status", "revoked")), fields=["revoked_at"], name="grant_lately_revoked"
            ),
        ),
        AddIndexConcurrently(
            model_name="grant",
            index=models.Index(
                condition=models.Q(("status", "pending")), fields=["consented_at"], name="grant_unconfirmed"
            ),
        ),
    ]
