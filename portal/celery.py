"""Celery: workers do the work, beat only proposes it."""

import os

from celery import Celery
from celery.signals import beat_init, celeryd_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

app = Celery("portal")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@celeryd_init.connect
@beat_init.connect
def _require_sound_start(**kwargs: object) -> None:
    """Refuse to work with keys that do not fit the data, or a wrong catalog file."""
    from portal.start_up import require_sound_start

    require_sound_start()
