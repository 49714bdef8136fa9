"""Name what staff may do with the audit log; nobody may change it (G3). No change of the schema."""

from typing import ClassVar

from django.db import migrations


class Migration(migrations.Migration):
    """Permissions only."""

    dependencies: ClassVar = [
        ("portal", "0003_logos_and_audit_paging"),
    ]

    operations: ClassVar = [
        migrations.AlterModelOptions(
            name="auditevent",
            options={
                "default_permissions": ("view",),
                "ordering": ["-id"],
                "permissions": [("export_auditevent", "Can export audit events")],
                "verbose_name": "audit event",
            },
        ),
        migrations.AlterModelOptions(
            name="keycheck",
            options={"default_permissions": ("view",), "verbose_name": "key check"},
        ),
    ]
