from django.db import migrations

# A claim changes no column that an index has, so PostgreSQL can keep the new version beside the old one and touch no
# index at all (a HOT update), if the page has room. Without it a claim among a million writes to pages all over a dozen
# indexes. Rows change every hour, so dead ones are swept sooner than at a fifth of the table.
SETTINGS = {"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0.05}
TABLES = ("tokens_grant", "tokens_granttokens")


class Migration(migrations.Migration):
    dependencies = [
        ("tokens", "0012_find_old_grants"),
    ]

    operations = [
        migrations.RunSQL(
            f"ALTER TABLE {table} SET ({', '.join(f'{name} = {value}' for name, value in SETTINGS.items())})",
            f"ALTER TABLE {table} RESET ({', '.join(SETTINGS)})",
        )
        for table in TABLES
    ]
