"""The WSGI entry point of the web process."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

application = get_wsgi_application()

# Only now can models be imported. Nothing is served with keys that do not fit the data (C7).
from portal.keycheck import require_right_keys  # noqa: E402

require_right_keys()
