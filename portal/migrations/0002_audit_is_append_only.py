"""Let the database itself refuse to change or delete audit events (G3).

Retention, when there is one, must say so in its transaction: `SET LOCAL portal.audit_retention = 'on'`.
"""

from typing import ClassVar

from django.db import migrations

FORWARD = """
CREATE FUNCTION portal_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('portal.audit_retention', true) = 'on' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'Audit events are never changed or deleted.' USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON portal_auditevent
    FOR EACH ROW EXECUTE FUNCTION portal_audit_is_append_only();
"""

BACKWARD = """
DROP TRIGGER audit_is_append_only ON portal_auditevent;
DROP FUNCTION portal_audit_is_append_only();
"""


class Migration(migrations.Migration):
    """A trigger on the audit log."""

    dependencies: ClassVar = [("portal", "0001_first")]

    operations: ClassVar = [migrations.RunSQL(FORWARD, BACKWARD)]
