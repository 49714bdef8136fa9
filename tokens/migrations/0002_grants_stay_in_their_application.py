"""Bind a grant's and a connect session's application to that of its provider configuration.

Django can't say a foreign key over two columns, and this boundary is not left to code.
"""

from typing import ClassVar

from django.db import migrations

TABLES = ("tokens_grant", "tokens_connectsession")

FORWARD = "\n".join(
    f"""ALTER TABLE {table} ADD CONSTRAINT {table}_in_application
    FOREIGN KEY (provider_config_id, application_id) REFERENCES providers_providerconfig (id, application_id)
    DEFERRABLE INITIALLY DEFERRED;"""
    for table in TABLES
)
BACKWARD = "\n".join(f"ALTER TABLE {table} DROP CONSTRAINT {table}_in_application;" for table in TABLES)


class Migration(migrations.Migration):
    """Foreign keys over two columns."""

    dependencies: ClassVar = [("tokens", "0001_first")]

    operations: ClassVar = [migrations.RunSQL(FORWARD, BACKWARD)]
