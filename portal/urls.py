"""All addresses. Each app brings its own; nothing is at two addresses; one page takes the place of allauth's."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path

from portal.views import health
from portal.views.sessions import SessionListView

admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("accounts/sessions/", SessionListView.as_view(), name="usersessions_list"),
    path("accounts/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    path("", include("portal.application_urls")),
    path("", include("providers.urls")),
    path("", include("tokens.webhooks.urls")),
    path("", include("tokens.urls")),
]
