"""The API in one table: addresses, methods, the permission each needs, and every field that may be sent."""

from django.urls import path

from portal.models.api_keys import KeyPermission
from tokens.api import connect, elsewhere, grants, token
from tokens.api.door import Operation, resource

TOKENS_READ, CONNECT = KeyPermission.TOKENS_READ, KeyPermission.CONNECT
GRANTS_READ, GRANTS_WRITE = KeyPermission.GRANTS_READ, KeyPermission.GRANTS_WRITE

LIST_FIELDS = frozenset({"end_user", "provider", "status", "cursor", "limit"})
TOKEN_FIELDS = frozenset({"end_user", "provider", "min_ttl"})
SESSION_FIELDS = frozenset({"end_user", "provider", "return_url", "label", "scopes", "reconnect"})

# Ids are taken as text: what is no id gets the same answer as one that is not there (D1).
urlpatterns = [
    path("token", resource(GET=Operation(token.of_end_user, TOKENS_READ, TOKEN_FIELDS)), name="api-token"),
    path("grants", resource(GET=Operation(grants.list_them, GRANTS_READ, LIST_FIELDS)), name="api-grants"),
    path(
        "grants/<str:pk>",
        resource(GET=Operation(grants.show, GRANTS_READ), DELETE=Operation(grants.revoke_one, GRANTS_WRITE)),
        name="api-grant",
    ),
    path(
        "grants/<str:pk>/token",
        resource(GET=Operation(token.of_grant, TOKENS_READ, frozenset({"min_ttl"}))),
        name="api-grant-token",
    ),
    path(
        "connect/sessions",
        resource(POST=Operation(connect.open_one, CONNECT, SESSION_FIELDS)),
        name="api-connect-sessions",
    ),
    path(
        "connect/sessions/<str:pk>",
        resource(GET=Operation(connect.show, CONNECT)),
        name="api-connect-session",
    ),
    path(
        "connect/exchange",
        resource(POST=Operation(connect.exchange, CONNECT, frozenset({"code", "end_user"}))),
        name="api-connect-exchange",
    ),
    path("problems/<str:code>", elsewhere.explain, name="api-problem"),
    path("<path:rest>", elsewhere.nothing_here, name="api-nothing"),
]
