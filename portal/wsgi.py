"""The WSGI entry point of the web process."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

application = get_wsgi_application()

# Only now can models be imported.
from django.conf import settings  # noqa: E402
from django.utils.module_loading import import_string  # noqa: E402

from portal.start_up import keep_what_is_loaded, require_sound_start  # noqa: E402

require_sound_start()

# By its name, since imports go one way and this is the lowest app.
application = import_string(settings.WSGI_HOT_PATH)(application)

keep_what_is_loaded()
