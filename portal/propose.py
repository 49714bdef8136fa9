"""Propose a task to the workers at once, where beat would do it within minutes."""

from __future__ import annotations

import logging
from datetime import timedelta

logger = logging.getLogger(__name__)

# Nobody waits for the broker: beat proposes the same.
HINT_SECONDS = 1
HINT_OPTIONS = {
    "socket_timeout": HINT_SECONDS,
    "socket_connect_timeout": HINT_SECONDS,
    # Kombu would go on trying for several seconds.
    "max_retries": 1,
    "interval_start": 0,
}


def propose(task: str, *, expires: int, after: timedelta = timedelta(0)) -> None:
    """Tell a worker, if the broker takes it; nothing waits for that, and nothing depends on it."""
    from kombu.exceptions import OperationalError

    from portal.celery import app

    try:
        with app.connection_for_write(transport_options=HINT_OPTIONS) as broker:
            app.send_task(
                task,
                connection=broker,
                countdown=after.total_seconds() or None,
                expires=expires,
                ignore_result=True,
                retry=False,
            )
    except (OperationalError, OSError) as error:
        logger.info("The broker took no hint (%s); beat finds what is to be done.", type(error).__name__)
