import django.db.models.deletion
import portal.encryption
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("portal", "0012_api_key_changed_event"),
        ("providers", "0005_provider_clocks"),
        ("tokens", "0014_lighter_refreshes"),
    ]

    operations = [
        migrations.AddField(
            model_name="upstreamrevocation",
            name="client",
            field=portal.encryption.SealedField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="upstreamrevocation",
            name="provider_id",
            field=models.CharField(blank=True, db_default="", max_length=50),
        ),
        migrations.AlterField(
            model_name="upstreamrevocation",
            name="application",
            field=models.ForeignKey(
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="portal.application",
            ),
        ),
        migrations.AlterField(
            model_name="upstreamrevocation",
            name="grant",
            field=models.ForeignKey(
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="upstream_revocations",
                to="tokens.grant",
            ),
        ),
        migrations.AlterField(
            model_name="upstreamrevocation",
            name="provider_config",
            field=models.ForeignKey(
                db_constraint=False,
                null=True,
                on_delete=django.db.models.deletion.DO_NOTHING,
                related_name="+",
                to="providers.providerconfig",
            ),
        ),
        # On the way back: what has outlived its provider can't be kept.
        migrations.RunSQL(
            migrations.RunSQL.noop,
            "DELETE FROM tokens_upstreamrevocation x WHERE NOT EXISTS ("
            "SELECT FROM tokens_grant g WHERE g.id = x.grant_id AND g.application_id = x.application_id"
            " AND g.provider_config_id = x.provider_config_id)",
        ),
    ]
