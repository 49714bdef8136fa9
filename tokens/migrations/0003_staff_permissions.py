"""Name what staff may do with grants; looking allows nothing else (G4). No change of the schema."""

from typing import ClassVar

from django.db import migrations


class Migration(migrations.Migration):
    """Permissions only."""

    dependencies: ClassVar = [
        ("tokens", "0002_grants_stay_in_their_application"),
    ]

    operations: ClassVar = [
        migrations.AlterModelOptions(
            name="authorizationrequest",
            options={"default_permissions": ("view",)},
        ),
        migrations.AlterModelOptions(
            name="connectsession",
            options={"default_permissions": ("view",), "ordering": ["-created_at"]},
        ),
        migrations.AlterModelOptions(
            name="grant",
            options={
                "default_permissions": ("view",),
                "ordering": ["-connected_at", "-id"],
                "verbose_name": "connection",
                "permissions": [
                    ("refresh_grant", "Can refresh connections now"),
                    ("revoke_grant", "Can revoke connections"),
                    ("export_grant", "Can export connections"),
                ],
            },
        ),
        migrations.AlterModelOptions(
            name="granttokens",
            options={"default_permissions": (), "verbose_name_plural": "grant tokens"},
        ),
        migrations.AlterModelOptions(
            name="refreshattempt",
            options={
                "default_permissions": ("view",),
                "ordering": ["-id"],
                "verbose_name": "refresh attempt",
            },
        ),
        migrations.AlterModelOptions(
            name="refreshcount",
            options={"default_permissions": ("view",)},
        ),
        migrations.AlterModelOptions(
            name="site",
            options={"default_permissions": ("view",), "ordering": ["name", "cloud_id"]},
        ),
    ]
