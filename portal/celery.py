"""Celery: workers do the work, beat only proposes it."""

import os

from celery import Celery
from celery.signals import beat_init, celeryd_init, setup_logging, task_postrun, task_prerun

from portal.logs import current_task_id

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

app = Celery("portal")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@celeryd_init.connect
@beat_init.connect
def _require_sound_start(**kwargs: object) -> None:
    """Refuse to work with keys that do not fit the data, or a wrong catalog file."""
    from portal.start_up import keep_what_is_loaded, require_sound_start

    require_sound_start()
    keep_what_is_loaded()


@setup_logging.connect
def _keep_our_logging(**kwargs: object) -> None:
    """Log as LOGGING in the settings says, whatever --loglevel is: Celery leaves logging alone where somebody listens."""


@task_prerun.connect
def _note_task(task_id: str, **kwargs: object) -> None:
    current_task_id.set(task_id)


@task_postrun.connect
def _forget_task(**kwargs: object) -> None:
    current_task_id.set("")
