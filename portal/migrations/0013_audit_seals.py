"""Seals over the audit log (G3); neither its events nor its seals are changed, deleted or truncated."""

from typing import ClassVar

import django.db.models.functions.datetime
from django.db import migrations, models

import portal.encryption

FORWARD = """
CREATE OR REPLACE FUNCTION portal_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP IN ('DELETE', 'TRUNCATE') AND current_setting('portal.audit_retention', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'Audit events and their seals are never changed or deleted.' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER audit_is_not_truncated BEFORE TRUNCATE ON portal_auditevent
    FOR EACH STATEMENT EXECUTE FUNCTION portal_audit_is_append_only();
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON portal_auditseal
    FOR EACH ROW EXECUTE FUNCTION portal_audit_is_append_only();
CREATE TRIGGER audit_is_not_truncated BEFORE TRUNCATE ON portal_auditseal
    FOR EACH STATEMENT EXECUTE FUNCTION portal_audit_is_append_only();
"""

# Tables go with their triggers.
BACKWARD = """
DROP TRIGGER audit_is_not_truncated ON portal_auditevent;
CREATE OR REPLACE FUNCTION portal_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('portal.audit_retention', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'Audit events are never changed or deleted.' USING ERRCODE = 'restrict_violation';
END $$;
"""


class Migration(migrations.Migration):
    """Two tables, and triggers."""

    dependencies: ClassVar = [("portal", "0012_api_key_changed_event")]

    operations: ClassVar = [
        migrations.CreateModel(
            name="AuditSeal",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "until",
                    models.DateTimeField(
                        help_text="Exclusive. The seal before ends where this one begins.", unique=True
                    ),
                ),
                (
                    "events",
                    models.PositiveBigIntegerField(
                        help_text="How many there were, for the words of check_audit."
                    ),
                ),
                ("digest", models.BinaryField(max_length=32)),
                (
                    "sealed_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
            ],
            options={"verbose_name": "audit seal", "default_permissions": ("view",)},
        ),
        migrations.CreateModel(
            name="AuditKey",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("key", portal.encryption.SealedField(blank=True, null=True)),
                (
                    "created_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), editable=False
                    ),
                ),
            ],
            options={
                "verbose_name": "audit key",
                "default_permissions": ("view",),
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("id", 1)), name="only_one_audit_key")
                ],
            },
        ),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
