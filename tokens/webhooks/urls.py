"""Addresses of webhook endpoints and their messages."""

from django.urls import path

from tokens.webhooks import views, views_messages

BELOW = "applications/<slug:slug>/webhooks/"

urlpatterns = [
    path(BELOW, views.webhook_list, name="webhook-list"),
    path(f"{BELOW}new/", views.webhook_create, name="webhook-create"),
    path(f"{BELOW}<uuid:pk>/", views.webhook_detail, name="webhook-detail"),
    path(f"{BELOW}<uuid:pk>/change/", views.webhook_change, name="webhook-change"),
    path(f"{BELOW}<uuid:pk>/rotate/", views.webhook_rotate, name="webhook-rotate"),
    path(f"{BELOW}<uuid:pk>/disable/", views.webhook_disable, name="webhook-disable"),
    path(f"{BELOW}<uuid:pk>/enable/", views.webhook_enable, name="webhook-enable"),
    path(f"{BELOW}<uuid:pk>/delete/", views.webhook_delete, name="webhook-delete"),
    path(f"{BELOW}<uuid:pk>/test/", views_messages.webhook_test, name="webhook-test"),
    path(
        f"{BELOW}<uuid:pk>/redeliver/",
        views_messages.webhook_redeliver_failed,
        name="webhook-redeliver-failed",
    ),
    path(f"{BELOW}messages/<uuid:uid>/", views_messages.webhook_message, name="webhook-message"),
    path(
        f"{BELOW}messages/<uuid:uid>/redeliver/", views_messages.webhook_redeliver, name="webhook-redeliver"
    ),
]
