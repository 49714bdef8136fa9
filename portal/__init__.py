"""The portal: people, applications, members, audit and encryption. The lowest of our three apps."""

from portal.celery import app as celery_app

__all__ = ["celery_app"]
