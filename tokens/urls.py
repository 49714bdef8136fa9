"""Addresses of the API, of connecting, and of the members' pages: Overview and Connections."""

from django.urls import include, path

from tokens.api.reference import reference
from tokens.views import grant_actions, grants, guide, health, let_end, links, metrics, overview

urlpatterns = [
    path("metrics", metrics.metrics, name="metrics"),
    path("api/docs", reference, name="api-reference"),
    path("api/v1/", include("tokens.api.urls")),
    path("", include("tokens.connect_urls")),
    path("applications/<slug:slug>/", overview.application_overview, name="application-overview"),
    path("applications/<slug:slug>/health/", health.health_page, name="health"),
    path("applications/<slug:slug>/connect/", guide.connect_guide, name="connect-guide"),
    path("applications/<slug:slug>/connections/", grants.grant_list, name="grant-list"),
    path("applications/<slug:slug>/connections/new/", links.grant_create, name="grant-create"),
    path("applications/<slug:slug>/connections/<uuid:pk>/", grants.grant_detail, name="grant-detail"),
    path(
        "applications/<slug:slug>/connections/<uuid:pk>/refresh/",
        grant_actions.grant_refresh,
        name="grant-refresh",
    ),
    path(
        "applications/<slug:slug>/connections/<uuid:pk>/reconnect/",
        links.grant_reconnect,
        name="grant-reconnect",
    ),
    path(
        "applications/<slug:slug>/connections/<uuid:pk>/confirm/",
        grant_actions.grant_confirm,
        name="grant-confirm",
    ),
    path(
        "applications/<slug:slug>/connections/<uuid:pk>/reject/",
        grant_actions.grant_reject,
        name="grant-reject",
    ),
    path(
        "applications/<slug:slug>/connections/<uuid:pk>/revoke/",
        grant_actions.grant_revoke,
        name="grant-revoke",
    ),
    path(
        "applications/<slug:slug>/providers/<slug:provider_id>/let-end/",
        let_end.provider_let_end,
        name="provider-let-end",
    ),
    path(
        "applications/<slug:slug>/providers/<slug:provider_id>/connect/",
        links.provider_connect,
        name="provider-connect",
    ),
]
