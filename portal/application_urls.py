"""Addresses of applications, members, audit log and settings."""

from django.urls import path

from portal.views import api_keys, applications, audit_log, invitations, members, settings

urlpatterns = [
    path("", applications.home, name="home"),
    path("applications/", applications.application_list, name="application-list"),
    path("applications/new/", applications.application_create, name="application-create"),
    path("applications/<slug:slug>/settings/", settings.application_settings, name="application-settings"),
    path("applications/<slug:slug>/archive/", applications.application_archive, name="application-archive"),
    path("applications/<slug:slug>/restore/", applications.application_restore, name="application-restore"),
    path("applications/<slug:slug>/delete/", applications.application_delete, name="application-delete"),
    path("applications/<slug:slug>/logo.png", applications.application_logo, name="application-logo"),
    path("applications/<slug:slug>/api-keys/", api_keys.api_key_list, name="api-key-list"),
    path("applications/<slug:slug>/api-keys/new/", api_keys.api_key_create, name="api-key-create"),
    path("applications/<slug:slug>/api-keys/export/", api_keys.api_key_export, name="api-key-export"),
    path("applications/<slug:slug>/api-keys/<uuid:pk>/", api_keys.api_key_change, name="api-key-change"),
    path(
        "applications/<slug:slug>/api-keys/<uuid:pk>/rotate/",
        api_keys.api_key_rotate,
        name="api-key-rotate",
    ),
    path(
        "applications/<slug:slug>/api-keys/<uuid:pk>/revoke/",
        api_keys.api_key_revoke,
        name="api-key-revoke",
    ),
    path("applications/<slug:slug>/members/", members.member_list, name="member-list"),
    path("applications/<slug:slug>/members/invite/", members.member_invite, name="member-invite"),
    path("applications/<slug:slug>/members/<int:pk>/", members.member_change, name="member-change"),
    path("applications/<slug:slug>/members/<int:pk>/remove/", members.member_remove, name="member-remove"),
    path(
        "applications/<slug:slug>/invitations/<uuid:pk>/withdraw/",
        members.invitation_withdraw,
        name="invitation-withdraw",
    ),
    path("applications/<slug:slug>/audit-log/", audit_log.audit_log, name="audit-log"),
    path("applications/<slug:slug>/audit-log/export/", audit_log.audit_export, name="audit-export"),
    path("invitations/<str:token>/", invitations.invitation_accept, name="invitation-accept"),
]
