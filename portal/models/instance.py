"""Which installation this database belongs to, see portal/instance.py."""

from django.db import models
from django.db.models.functions import Now


class Instance(models.Model):
    """One row: the id of the installation that may refresh with this database's tokens."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    instance_id = models.CharField(max_length=64)
    adopted_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="only_one_instance")]

    def __str__(self) -> str:
        return self.instance_id
