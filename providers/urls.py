"""Addresses of the provider pages."""

from django.urls import path

from providers import views

urlpatterns = [
    path("applications/<slug:slug>/providers/", views.provider_list, name="provider-list"),
    path("applications/<slug:slug>/providers/add/", views.provider_gallery, name="provider-gallery"),
    path(
        "applications/<slug:slug>/providers/add/<slug:provider_id>/", views.provider_add, name="provider-add"
    ),
    path(
        "applications/<slug:slug>/providers/<slug:provider_id>/",
        views.provider_detail,
        name="provider-detail",
    ),
    path(
        "applications/<slug:slug>/providers/<slug:provider_id>/enable/",
        views.provider_enable,
        name="provider-enable",
    ),
    path(
        "applications/<slug:slug>/providers/<slug:provider_id>/disable/",
        views.provider_disable,
        name="provider-disable",
    ),
    path(
        "applications/<slug:slug>/providers/<slug:provider_id>/freshness/",
        views.provider_freshness,
        name="provider-freshness",
    ),
    path(
        "applications/<slug:slug>/providers/<slug:provider_id>/delete/",
        views.provider_delete,
        name="provider-delete",
    ),
]
