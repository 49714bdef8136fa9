"""Addresses of the pages that end users see."""

from django.urls import path

from tokens.views import connect, connected, manage, my_connection, reconnect

urlpatterns = [
    # The fixed words first: a link's token is 43 characters long and never one of them.
    path("connect/sites/<uuid:pk>/", connected.connect_sites, name="connect-sites"),
    path("connect/result/<uuid:pk>/", connected.connect_result, name="connect-result"),
    path("connect/return/<uuid:pk>/", connected.connect_return, name="connect-return"),
    path("connect/again/<uuid:pk>/", connect.connect_again, name="connect-again"),
    path("connect/my/<uuid:pk>/", my_connection.my_connection, name="my-connection"),
    path(
        "connect/my/<uuid:pk>/disconnect/",
        my_connection.my_connection_disconnect,
        name="my-connection-disconnect",
    ),
    path("connect/reconnect/<str:token>/", reconnect.reconnect_page, name="reconnect-page"),
    path("connect/manage/<str:token>/", manage.manage_open, name="manage-open"),
    path("connect/mine/<uuid:pk>/", manage.manage_page, name="manage-page"),
    path(
        "connect/mine/<uuid:pk>/disconnect/<uuid:grant>/",
        manage.manage_disconnect,
        name="manage-disconnect",
    ),
    path("connect/<str:token>/", connect.connect_page, name="connect-page"),
    path("connect/<str:token>/start/", connect.connect_start, name="connect-start"),
    # No slash at the end: registered at providers to the last character (providers/models.py).
    path("oauth/callback/<slug:slug>/<slug:provider_id>", connect.connect_callback, name="connect-callback"),
]
