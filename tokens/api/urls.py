"""The API in one table: addresses, methods, the permission each needs, every field that may be sent, every answer.

The OpenAPI document (openapi.py) is made from it, so an operation that stands here is described, and none that does not.
"""

from typing import Any

from django.urls import path

from portal.models import Event
from portal.models.api_keys import KeyPermission
from tokens import errors
from tokens.api import (
    audit,
    connect,
    elsewhere,
    grants,
    manage,
    openapi,
    problems,
    proxy,
    shapes,
    token,
    transfer,
)
from tokens.api.door import resource
from tokens.api.fields import Choice, Field, Notes, Number, Text, Texts
from tokens.api.operation import Operation
from tokens.models import GrantStatus

TOKENS_READ, CONNECT = KeyPermission.TOKENS_READ, KeyPermission.CONNECT
GRANTS_READ, GRANTS_WRITE = KeyPermission.GRANTS_READ, KeyPermission.GRANTS_WRITE
AUDIT_READ = KeyPermission.AUDIT_READ

NOT_FOUND = problems.NotFoundError
END_USER = "Your own id of the person."
PROVIDER = "Such as `atlassian`."
RETURN_URL = (
    "Where the end user comes back to, with `code` and `connect_session` added; on an allowed origin."
)
SCOPES = "Fewer than configured; required ones are added. Left out: all that are configured."


def needed(field: type[Field], **options: Any) -> Field:
    """Return a field that must be sent."""
    return field(is_required=True, **options)


MIN_TTL: dict[str, Field] = {
    "min_ttl": Number(
        about="Seconds that the token is good for at least; nearer its end it is refreshed first.",
        most=token.MOST_MIN_TTL,
        default=token.MIN_TTL,
    )
}
TOKEN_FIELDS: dict[str, Field] = {
    "end_user": needed(Text, about=END_USER),
    "provider": needed(Text, about=PROVIDER, most=50),
    **MIN_TTL,
}
LIST_FIELDS: dict[str, Field] = {
    "end_user": Text(about="Only those of this end user: your own id of the person."),
    "provider": Text(about="Only those with this provider.", most=50),
    "status": Choice(about="Only those that stand so.", options=tuple(GrantStatus.values)),
    "site": Text(about="Only those that reach this site: its cloud id, name or URL.", most=500),
    "limit": Number(about="How many at most.", least=1, most=grants.MOST_ROWS, default=50),
    "cursor": Text(about="The `next_cursor` of an earlier answer."),
}
CHANGE_FIELDS: dict[str, Field] = {
    "label": Text(about="A name for people; empty for none.", least=0),
    "metadata": Notes(about="Notes of your own, names and texts; replaced as a whole."),
}
SESSION_FIELDS: dict[str, Field] = {
    "end_user": needed(Text, about=END_USER),
    "provider": needed(Text, about=PROVIDER, most=50),
    "return_url": needed(Text, about=RETURN_URL, most=2000),
    "label": Text(about="A name for the connection, for people.", least=0),
    "scopes": Texts(about=SCOPES),
    "reconnect": Text(about="The id of a grant of this end user, to be repaired in place."),
}
RECONNECT_FIELDS: dict[str, Field] = {
    "return_url": Text(about=RETURN_URL, most=2000),
    "scopes": Texts(about=SCOPES),
}
MANAGE_FIELDS: dict[str, Field] = {
    "end_user": needed(Text, about="Who is signed in to your application there."),
    "return_url": Text(about="Where its *Back* leads; on an allowed origin.", most=2000),
}
EXCHANGE_FIELDS: dict[str, Field] = {
    "code": needed(Text, about="The one-time code that came to `return_url`."),
    "end_user": needed(Text, about="Who is signed in to your application there."),
}

EXPORT_FIELDS: dict[str, Field] = {
    "provider": Text(about="Only those with this provider.", most=50),
    "limit": Number(about="How many at most.", least=1, most=transfer.MOST_EXPORTED, default=50),
    "cursor": LIST_FIELDS["cursor"],
}
AUDIT_FIELDS: dict[str, Field] = {
    "event": Choice(about="Only events of this kind.", options=tuple(Event.values)),
    "grant": Text(about="Only those about this grant."),
    "limit": Number(about="How many at most.", least=1, most=audit.MOST_EVENTS, default=50),
    "cursor": LIST_FIELDS["cursor"],
}

REFRESH_ERRORS = (
    NOT_FOUND,
    errors.NeedsReconnectError,
    errors.NotRefreshableError,
    errors.RevokedError,
    errors.ProviderDisabledError,
    errors.NotInCatalogError,
    errors.RefreshInProgressError,
    errors.ProviderUnavailableError,
    errors.ClientRefusedError,
    errors.UnreadableTokenError,
    errors.ForeignDatabaseError,
)
TOKEN_ERRORS = (*REFRESH_ERRORS, errors.NotConfirmedError, errors.AuditUnavailableError)
SESSION_ERRORS = (
    NOT_FOUND,
    errors.BadReturnUrlError,
    errors.BadSessionRequestError,
    errors.ProviderDisabledError,
    errors.NotInCatalogError,
)

PROXY = Operation(
    proxy.carry,
    KeyPermission.PROXY,
    takes=None,
    at_once=proxy.carry_at_once,
    errors=(
        *TOKEN_ERRORS,
        problems.TooLargeError,
        errors.BadPathError,
        errors.NoSuchSiteError,
        errors.TooManyAtOnceError,
        errors.UpstreamFailedError,
        errors.UpstreamTimeoutError,
        errors.AnswerTooLargeError,
    ),
)

# Ids are taken as text: what is no id gets the same answer as one that is not there (D1).
urlpatterns = [
    path(
        "token",
        resource(
            GET=Operation(
                token.of_end_user,
                TOKENS_READ,
                TOKEN_FIELDS,
                answers=shapes.TokenShape,
                errors=(*TOKEN_ERRORS, problems.AmbiguousError),
            )
        ),
        name="api-token",
    ),
    path(
        "grants",
        resource(GET=Operation(grants.list_them, GRANTS_READ, LIST_FIELDS, answers=shapes.GrantPage)),
        name="api-grants",
    ),
    # Before the ids.
    path(
        "grants/import",
        resource(
            POST=Operation(
                transfer.bring_all_in,
                GRANTS_WRITE,
                transfer.IMPORT_FIELDS,
                answers=shapes.ImportResult,
                errors=(errors.NotInCatalogError,),
                largest_body=transfer.LARGEST_IMPORT,
            )
        ),
        name="api-grants-import",
    ),
    path(
        "grants/export",
        resource(
            GET=Operation(
                transfer.take_all_out,
                KeyPermission.GRANTS_EXPORT,
                EXPORT_FIELDS,
                answers=shapes.ExportPage,
                errors=(problems.ExportRunningError, errors.AuditUnavailableError),
            )
        ),
        name="api-grants-export",
    ),
    path(
        "grants/<str:pk>",
        resource(
            GET=Operation(grants.show, GRANTS_READ, answers=shapes.GrantShape, errors=(NOT_FOUND,)),
            PATCH=Operation(
                grants.change_one,
                GRANTS_WRITE,
                CHANGE_FIELDS,
                answers=shapes.GrantShape,
                errors=(NOT_FOUND,),
            ),
            DELETE=Operation(grants.revoke_one, GRANTS_WRITE, answers=shapes.GrantShape, errors=(NOT_FOUND,)),
        ),
        name="api-grant",
    ),
    path(
        "grants/<str:pk>/token",
        resource(
            GET=Operation(
                token.of_grant, TOKENS_READ, MIN_TTL, answers=shapes.TokenShape, errors=TOKEN_ERRORS
            )
        ),
        name="api-grant-token",
    ),
    path(
        "grants/<str:pk>/refresh",
        resource(
            POST=Operation(
                grants.refresh_one,
                GRANTS_WRITE,
                answers=shapes.GrantShape,
                errors=REFRESH_ERRORS,
                # A provider is asked meanwhile.
                is_one_transaction=False,
            )
        ),
        name="api-grant-refresh",
    ),
    path(
        "grants/<str:pk>/reconnect",
        resource(
            POST=Operation(
                grants.reconnect_one,
                CONNECT,
                RECONNECT_FIELDS,
                answers=shapes.OpenedSession,
                errors=(*SESSION_ERRORS, errors.RevokedError),
                status=201,
            )
        ),
        name="api-grant-reconnect",
    ),
    path(
        "connect/sessions",
        resource(
            POST=Operation(
                connect.open_one,
                CONNECT,
                SESSION_FIELDS,
                answers=shapes.OpenedSession,
                errors=SESSION_ERRORS,
                status=201,
            )
        ),
        name="api-connect-sessions",
    ),
    path(
        "connect/sessions/<str:pk>",
        resource(GET=Operation(connect.show, CONNECT, answers=shapes.SessionShape, errors=(NOT_FOUND,))),
        name="api-connect-session",
    ),
    path(
        "connect/exchange",
        resource(
            POST=Operation(
                connect.exchange,
                CONNECT,
                EXCHANGE_FIELDS,
                answers=shapes.GrantShape,
                errors=(NOT_FOUND, errors.ReturnCodeError),
            )
        ),
        name="api-connect-exchange",
    ),
    path(
        "manage-links",
        resource(
            POST=Operation(
                manage.make_one,
                CONNECT,
                MANAGE_FIELDS,
                answers=shapes.ManageLinkShape,
                errors=(errors.BadReturnUrlError,),
                status=201,
            )
        ),
        name="api-manage-links",
    ),
    path(
        "audit",
        resource(
            GET=Operation(
                audit.list_events, AUDIT_READ, AUDIT_FIELDS, answers=shapes.AuditPage, errors=(NOT_FOUND,)
            )
        ),
        name="api-audit",
    ),
    path(
        "proxy/<str:pk>/<str:site>/<str:product>/<path:path>",
        resource(GET=PROXY, POST=PROXY, PUT=PROXY, PATCH=PROXY, DELETE=PROXY),
        name="api-proxy",
    ),
    path("openapi.json", openapi.openapi, name="api-openapi"),
    path("problems/<str:code>", elsewhere.explain, name="api-problem"),
    path("<path:rest>", elsewhere.nothing_here, name="api-nothing"),
]
