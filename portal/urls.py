"""All addresses. Each app brings its own; nothing is at two addresses."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path

from portal.views import health

admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    path("", include("portal.application_urls")),
    path("", include("providers.urls")),
    path("", include("tokens.webhooks.urls")),
    path("", include("tokens.urls")),
]
