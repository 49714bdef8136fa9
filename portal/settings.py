"""All settings, from the environment, secure unless told otherwise.

What each variable means is in the README's table. Development switches (`DEMO`, `INSECURE_HTTP`) are set by
`make run` alone; the system checks refuse them where they would be dangerous.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import environ
from csp.constants import NONE, SELF
from django.urls import reverse_lazy

if TYPE_CHECKING:
    from wsgiref.headers import Headers

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.Env()

# --- Who and where we are -------------------------------------------------------------------------------------

SECRET_KEY = env.str("SECRET_KEY")
# Earlier SECRET_KEYs, so that sessions survive its rotation. Nothing is encrypted with either (C10).
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
DEBUG = env.bool("DEBUG", default=False)
# True only under `make run`: demo data, the demo login on the sign-in page.
DEMO = env.bool("DEMO", default=False)
DEMO_EMAIL = env.str("DEMO_EMAIL", default="admin@acme.example")
DEMO_PASSWORD = env.str("DEMO_PASSWORD", default="")
# Plain http on this machine's own address: cookies without Secure, no HSTS, plain-http providers on loopback.
INSECURE_HTTP = env.bool("INSECURE_HTTP", default=False)
# Every link and redirect URI starts with this, never with the Host header (A11).
PUBLIC_URL = env.str("PUBLIC_URL").rstrip("/")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[urlsplit(PUBLIC_URL).hostname or ""])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[PUBLIC_URL])
DATA_DIR = Path(env.str("DATA_DIR", default=str(BASE_DIR / ".data"))).resolve()
# How many proxies of ours stand in front and append to X-Forwarded-For; 0 means that the header is not believed.
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0)
# What Prometheus shows to read /metrics; without one there is no such page, but for this machine under `make run`.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")

# A folder through which the fault bench holds processes at named moments (tokens/moments.py).
FAULT_MOMENTS_DIR = env.str("FAULT_MOMENTS_DIR", default="")

# Calls a minute that an API key may make; its application may make five times as many with all its keys.
API_RATE_LIMIT = env.int("API_RATE_LIMIT", default=6000)
# Seconds that one call through the proxy may take, from its first byte to the last of the answer.
PROXY_DEADLINE_S = env.int("PROXY_DEADLINE_S", default=300)

# --- Encryption and providers ---------------------------------------------------------------------------------

# "id:base64,id:base64": 32 random bytes each; the first one encrypts, all of them decrypt.
ENCRYPTION_KEYS = env.list("ENCRYPTION_KEYS")
# A random word of this installation's own, kept apart from the database: a copy of the database refreshes nothing.
INSTANCE_ID = env.str("INSTANCE_ID", default="")
# When set, providers that have a sandbox (Atlassian) are reached there instead, and every page says so.
SANDBOX_URL = env.str("SANDBOX_URL", default="").rstrip("/")
# Folders with further catalog files, separated by commas.
PROVIDER_CATALOG_DIRS = [Path(folder) for folder in env.list("PROVIDER_CATALOG_DIRS", default=[])]
# Hosts of providers that may resolve to a private address, such as a self-hosted GitLab. Development may use its own
# machine.
EGRESS_PRIVATE_HOSTS = env.list(
    "EGRESS_PRIVATE_HOSTS", default=["127.0.0.1", "localhost", "::1"] if INSECURE_HTTP else []
)
# Plain http to providers; for development and tests only (B2).
EGRESS_PLAIN_HTTP = env.bool("EGRESS_PLAIN_HTTP", default=INSECURE_HTTP)

# --- Apps and middleware --------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "portal.apps.PortalConfig",
    "providers.apps.ProvidersConfig",
    "tokens.apps.TokensConfig",
    "portal.apps.PortalAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.forms",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.atlassian",
    "csp",
    "django_htmx",
    "template_partials",
]

MIDDLEWARE = [
    "portal.middleware.RequestIdMiddleware",
    "portal.middleware.MeasuredMiddleware",
    "portal.middleware.NoStoreMiddleware",
    "portal.middleware.RateLimitsGoneMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "portal.session_limits.SessionLimitsMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "portal.second_factor.SecondFactorMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "allauth.usersessions.middleware.UserSessionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "portal.middleware.OnlyFormsMiddleware",
]

ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"
# What stands in front of Django for the one call that must be fast; the reasons are there.
WSGI_HOT_PATH = "tokens.api.hot_path.HotPath"
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "portal.context.surroundings",
            ],
            "builtins": ["template_partials.templatetags.partials", "portal.templatetags.words"],
        },
    },
]

# --- Data -----------------------------------------------------------------------------------------------------

DATABASES = {
    "default": {
        **env.db("DATABASE_URL"),
        "CONN_MAX_AGE": env.int("CONN_MAX_AGE", default=60),
        "CONN_HEALTH_CHECKS": True,
        "ATOMIC_REQUESTS": False,
    }
}
REDIS_URL = env.str("REDIS_URL")
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        # It holds rate limits, and counts that can be made again. One that hangs must not hold the web's threads.
        "OPTIONS": {"socket_connect_timeout": 2, "socket_timeout": 2},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Celery: ids only, no results, nothing decided on the broker ----------------------------------------------

CELERY_BROKER_URL = REDIS_URL
if REDIS_URL.startswith("unix://"):
    # Celery has its own words for a socket file and for the number of the database.
    CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
# Above the longest that a drain may take: claiming, the last answer, and holding it while the database is gone.
CELERY_TASK_SOFT_TIME_LIMIT = 400
CELERY_TASK_TIME_LIMIT = 420
# Refreshing has a queue of its own, and a worker takes from both in turn. Where it can't keep up its proposals pile up,
# and webhooks and mails would stand behind up to an hour of them.
CELERY_TASK_QUEUES: dict[str, dict[str, str]] = {"celery": {}, "refresh": {}}
CELERY_TASK_ROUTES = {"tokens.tasks.refresh_due": {"queue": "refresh"}}
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 600}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_STORE_EAGER_RESULT = False
# Seconds between two proposals.
REFRESH_INTERVAL_S = env.int("REFRESH_INTERVAL_S", default=15)
HOUSEKEEPING_INTERVAL_S = 600
ALERTS_INTERVAL_S = 30
# A hint after each commit is quicker; this is for retries, and for hints that the broker lost.
WEBHOOK_INTERVAL_S = 5
# How long ended things are kept, in days; the audit log is kept for good.
KEEP_REFRESH_ATTEMPTS_DAYS = env.int("KEEP_REFRESH_ATTEMPTS_DAYS", default=30)
KEEP_REFRESH_COUNTS_DAYS = env.int("KEEP_REFRESH_COUNTS_DAYS", default=90)
KEEP_CONNECT_SESSIONS_DAYS = env.int("KEEP_CONNECT_SESSIONS_DAYS", default=30)
KEEP_WEBHOOKS_DAYS = env.int("KEEP_WEBHOOKS_DAYS", default=30)
# A revoked connection has no tokens any more; what is left says that it was there.
KEEP_REVOKED_DAYS = env.int("KEEP_REVOKED_DAYS", default=365)
# A connection that nobody confirmed is taken back.
KEEP_UNCONFIRMED_DAYS = env.int("KEEP_UNCONFIRMED_DAYS", default=7)
# How long a proposal is good for, in seconds. The next one says the same, but beat's clock and a worker's may differ:
# with a life of one interval, a worker that was a minute ahead dropped every proposal, and nothing was refreshed.
PROPOSAL_LIFE_S = 3600
CELERY_BEAT_SCHEDULE = {
    "refresh-due": {
        "task": "tokens.tasks.refresh_due",
        "schedule": REFRESH_INTERVAL_S,
        "options": {"expires": PROPOSAL_LIFE_S},
    },
    "deliver-webhooks": {
        "task": "tokens.tasks.deliver_webhooks",
        "schedule": WEBHOOK_INTERVAL_S,
        "options": {"expires": PROPOSAL_LIFE_S},
    },
    "tell-owners": {
        "task": "providers.tasks.tell_owners",
        "schedule": ALERTS_INTERVAL_S,
        "options": {"expires": PROPOSAL_LIFE_S},
    },
    "housekeeping": {
        "task": "tokens.tasks.housekeeping",
        "schedule": HOUSEKEEPING_INTERVAL_S,
        "options": {"expires": PROPOSAL_LIFE_S},
    },
}

# --- People and sign-in ---------------------------------------------------------------------------------------

AUTH_USER_MODEL = "portal.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = reverse_lazy("account_login")
LOGIN_REDIRECT_URL = reverse_lazy("home")
ACCOUNT_ADAPTER = "portal.people.AccountAdapter"
SOCIALACCOUNT_ADAPTER = "portal.people.SocialAccountAdapter"
MFA_ADAPTER = "portal.people.MFAAdapter"
USERSESSIONS_ADAPTER = "portal.sessions.SessionsAdapter"
ACCOUNT_FORMS = {
    "login": "portal.account_forms.LoginForm",
    "add_email": "portal.account_forms.AddEmailForm",
    "change_password": "portal.account_forms.ChangePasswordForm",
    "reset_password": "portal.account_forms.ResetPasswordForm",
    "reset_password_from_key": "portal.account_forms.ResetPasswordKeyForm",
}
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_UNIQUE_EMAIL = True
# Accounts are made by invitation only, and the mailed link proves the address (portal/invitations.py).
ACCOUNT_EMAIL_VERIFICATION = "optional"
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = False
ACCOUNT_SESSION_REMEMBER = None
ACCOUNT_REAUTHENTICATION_TIMEOUT = 900
# The real client's address, see TRUSTED_PROXIES.
ALLAUTH_TRUSTED_PROXY_COUNT = TRUSTED_PROXIES
# Who must have a second factor: "off", "staff" (whoever gets into Django admin) or "everyone" (H8).
REQUIRE_SECOND_FACTOR = env.str("REQUIRE_SECOND_FACTOR", default="off")
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = INSECURE_HTTP
MFA_TOTP_ISSUER = "Developer portal"
MFA_FORMS = {"activate_totp": "portal.second_factor.SealedActivateTOTPForm"}
# A member can make an account in somebody else's name through an invitation's link that he was shown; a passkey in it
# would outlive the real person's password reset. So second factors wait for a confirmed address (portal/invitations.py).
MFA_ALLOW_UNVERIFIED_EMAIL = False
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False
SIGN_IN_ATLASSIAN_CLIENT_ID = env.str("SIGN_IN_ATLASSIAN_CLIENT_ID", default="")
SIGN_IN_ATLASSIAN_CLIENT_SECRET = env.str("SIGN_IN_ATLASSIAN_CLIENT_SECRET", default="")
SOCIALACCOUNT_PROVIDERS = {
    "atlassian": {
        "APPS": [
            {"client_id": SIGN_IN_ATLASSIAN_CLIENT_ID, "secret": SIGN_IN_ATLASSIAN_CLIENT_SECRET, "key": ""}
        ]
        if SIGN_IN_ATLASSIAN_CLIENT_ID
        else []
    }
}

# --- E-mail ---------------------------------------------------------------------------------------------------

vars().update(env.email_url("EMAIL_URL", default="consolemail://"))
# A mail server that hangs must not hold a page for longer; the page then says that the mail was not sent.
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default=f"portal@{urlsplit(PUBLIC_URL).hostname}")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

# --- Browser security -----------------------------------------------------------------------------------------

SECURE_SSL_REDIRECT = (
    False  # TLS ends before us; plain http is refused by the proxy, API calls are never redirected (H7).
)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_HSTS_SECONDS = 0 if INSECURE_HTTP else 63_072_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = not INSECURE_HTTP
SECURE_HSTS_PRELOAD = not INSECURE_HTTP
# Not no-referrer: browsers would send "Origin: null" with every form, and the CSRF check would refuse them all. No
# other site learns anything either way. Pages without forms whose address holds a secret say no-referrer themselves.
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not INSECURE_HTTP
COOKIE_PREFIX = "" if INSECURE_HTTP else "__Host-"
SESSION_COOKIE_NAME = COOKIE_PREFIX + "session"
CSRF_COOKIE_NAME = COOKIE_PREFIX + "csrf"
CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_HTTPONLY = True
# Lax, not Strict: the return from the provider must find the session that started it (H2, A3).
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
# portal/session_limits.py counts this from signing in, and the other from the last click; 0 is no such limit (H1).
SESSION_COOKIE_AGE = 12 * 3600
SESSION_IDLE_MINUTES = env.int("SESSION_IDLE_MINUTES", default=120)
SESSION_SAVE_EVERY_REQUEST = False
CSRF_FAILURE_VIEW = "portal.views.errors.csrf_failure"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        # Chromium holds a form's redirects to this too: signing in with Atlassian goes to auth. and id.atlassian.com.
        "form-action": [SELF, "https://*.atlassian.com"] if SIGN_IN_ATLASSIAN_CLIENT_ID else [SELF],
        "base-uri": [NONE],
        "object-src": [NONE],
        "frame-ancestors": [NONE],
    }
}

# --- Static files, time, language -----------------------------------------------------------------------------

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_MANIFEST_STRICT = True
# /connect.js, which applications' pages load. At one address for good, so kept for an hour and then asked for again.
# Beside it stands every edition there was, under a name with its hash, for pages that pin one: those are kept for good.
WHITENOISE_ROOT = BASE_DIR / "public"
WHITENOISE_MAX_AGE = 3600
WHITENOISE_IMMUTABLE_FILE_TEST = r"^.+\.[0-9a-f]{12}\..+$"


def WHITENOISE_ADD_HEADERS_FUNCTION(headers: Headers, path: str, url: str) -> None:  # noqa: N802 - WhiteNoise's name.
    """Let pages of other origins load it, also those that ask for more isolation (COEP)."""
    headers["Cross-Origin-Resource-Policy"] = "cross-origin"


USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = False
FORMAT_MODULE_PATH = ["portal.formats"]
SILENCED_SYSTEM_CHECKS = [
    # TLS ends at the proxy in front, see SECURE_SSL_REDIRECT above.
    "security.W008",
]

# --- Logs -----------------------------------------------------------------------------------------------------

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
# "json" or "text", which people read more easily.
LOG_FORMAT = env.str("LOG_FORMAT", default="text" if INSECURE_HTTP else "json")
# Error reports hide more than Django does by itself (G7).
DEFAULT_EXCEPTION_REPORTER_FILTER = "portal.reports.ReportFilter"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {"()": "portal.logs.LineFormatter"},
        "json": {"()": "portal.logs.JsonLineFormatter"},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        "django": {"handlers": [], "level": LOG_LEVEL, "propagate": True},
        # These print requests, headers or SQL parameters at DEBUG: never wanted, whatever LOG_LEVEL says (G6).
        "django.db.backends": {"level": "INFO"},
        "django.template": {"level": "INFO"},
        "aiohttp": {"level": "INFO"},
        "asyncio": {"level": "INFO"},
        "kombu": {"level": "INFO"},
        "amqp": {"level": "INFO"},
    },
}
