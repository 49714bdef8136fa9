"""Keep logos apart from applications; index the audit log for its page."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("portal", "0002_audit_is_append_only"),
    ]

    operations = [
        migrations.CreateModel(
            name="ApplicationLogo",
            fields=[
                (
                    "application",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="logo",
                        serialize=False,
                        to="portal.application",
                    ),
                ),
                ("png", models.BinaryField(help_text="PNG, at most 256 × 256, made by us (portal/logo.py).")),
            ],
        ),
        migrations.RemoveIndex(
            model_name="auditevent",
            name="audit_by_application",
        ),
        migrations.RemoveField(
            model_name="application",
            name="logo",
        ),
        migrations.AddField(
            model_name="application",
            name="logo_digest",
            field=models.CharField(blank=True, editable=False, max_length=16),
        ),
        migrations.AddIndex(
            model_name="auditevent",
            index=models.Index(fields=["application_id", "-at", "-id"], name="audit_by_application_time"),
        ),
        migrations.AddIndex(
            model_name="auditevent",
            index=models.Index(
                condition=models.Q(("event", "token:handed_out"), _negated=True),
                fields=["application_id", "event", "-at", "-id"],
                name="audit_by_event",
            ),
        ),
    ]
