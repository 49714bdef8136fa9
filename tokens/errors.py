"""Everything that can go wrong with a connection, with words for people.

Each error has a stable `code`, an HTTP `status`, and a `message` that says what happened and what to do next. None
ever holds a provider's own text, a token or a code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokens.models import Grant


class TokenError(Exception):
    """Something that a person or a program can do something about."""

    code = "error"
    status = 400
    message = "That did not work."

    def __init__(self, message: str = "", **members: Any) -> None:
        self.message = message or self.message
        # What a program needs to recover, for the API's problem document.
        self.members = members
        super().__init__(self.message)


class ProviderDisabledError(TokenError):
    """The provider configuration is off, or the application archived."""

    code = "provider_disabled"
    status = 409
    message = (
        "This provider is switched off for the application. An admin can enable it under OAuth Providers."
    )


class BadReturnUrlError(TokenError):
    """The return URL is not on the application's list."""

    code = "bad_return_url"
    message = (
        "The return URL is not on one of this application's allowed origins. Add its origin under Settings, "
        "or leave the field empty."
    )


class BadSessionRequestError(TokenError):
    """What was asked for can't be connected; the message says why."""

    code = "bad_session_request"


class NotRefreshableError(TokenError):
    """A grant that can't be refreshed as it stands."""

    code = "not_refreshable"
    status = 409
    message = "This connection cannot be refreshed."


class ForeignDatabaseError(NotRefreshableError):
    """The database is a copy, and only the original may spend its tokens."""

    code = "foreign_database"
    status = 503
    message = (
        "This database is a copy of another installation's, so nothing is refreshed here. "
        "`manage.py adopt_instance` makes it the original."
    )


class NeedsReconnectError(NotRefreshableError):
    """The person must consent again."""

    code = "needs_reconnect"
    message = "Access has ended at the provider. Send the person a reconnect link."

    def __init__(self, grant: Grant) -> None:
        super().__init__()
        # For the link, which the API makes (tokens/api/door.py).
        self.grant = grant


class NotInCatalogError(NotRefreshableError):
    """The provider's catalog file is gone, so nobody knows how to ask it."""

    code = "not_in_catalog"
    message = "This provider is no longer in the catalog, so it cannot be refreshed. Put its file back (PROVIDER_CATALOG_DIRS)."


class RefreshInProgressError(TokenError):
    """Someone else is refreshing it just now."""

    code = "refresh_in_progress"
    status = 503
    message = "A refresh is under way. Try again in a few seconds."


class ProviderUnavailableError(TokenError):
    """The provider does not answer, or not sensibly."""

    code = "provider_unavailable"
    status = 503
    message = "The provider is not answering. We keep trying; nothing is lost."


class ClientRefusedError(TokenError):
    """The provider refuses our client ID or secret."""

    code = "client_refused"
    status = 503
    message = "The provider refuses the client ID or secret. An admin must replace the secret under OAuth Providers."


class NotConfirmedError(TokenError):
    """A token of a grant that nobody has vouched for yet (A5)."""

    code = "not_confirmed"
    status = 409
    message = (
        "This connection is waiting for confirmation. Exchange the one-time code that came with the end user, or have "
        "a member confirm the account on the portal."
    )


class RevokedError(TokenError):
    """A token of a grant that was taken back."""

    code = "revoked"
    status = 409
    message = "This connection was revoked, and its tokens are erased. Make a new connect session."


class UnreadableTokenError(TokenError):
    """A stored token that does not open, or is not there."""

    code = "unreadable_token"
    status = 503
    message = (
        "The stored token cannot be decrypted. Whoever runs the portal must look at its ENCRYPTION_KEYS; "
        "connecting again replaces the token."
    )


class AuditUnavailableError(TokenError):
    """A hand-out that could not be written down, so it did not happen (D9)."""

    code = "audit_unavailable"
    status = 503
    message = "The audit log could not be written, so no token is handed out. Try again in a few seconds."


class NotPendingError(TokenError):
    """Confirming or rejecting what waits for no confirmation."""

    code = "not_pending"
    status = 409
    message = "This connection is not waiting for a confirmation any more."


class ReturnCodeError(TokenError):
    """A one-time code that is unknown, used, expired, or meant for another end user."""

    code = "bad_code"
    message = "The code is not valid: unknown, already used, expired, or made for another end user."


class BadPathError(TokenError):
    """A path for the proxy that could lead elsewhere, or that we can't pass on as it was meant (E1)."""

    code = "bad_path"
    message = (
        "The proxy takes a plain path below the product's base URL: no host, no `..`, no empty part, no backslash, and "
        "nothing that is encoded twice."
    )


class NoSuchSiteError(TokenError):
    """A site or product that the connection does not reach; `sites` lists those that it does."""

    code = "no_such_site"
    status = 404
    message = (
        "The connection reaches no such site, or the site lacks the product. Name a site of `sites` by its cloud id or name, "
        "with one of its products; `-` is for a connection that reaches only one site."
    )


class TooManyAtOnceError(TokenError):
    """The calls through the proxy use up what the application, or all of them, may use at once (E7)."""

    code = "too_many_at_once"
    status = 429
    message = (
        "Too many calls are in the proxy just now. Send fewer at once, and go on after `retry_after` seconds."
    )


class UpstreamFailedError(TokenError):
    """The provider did not answer a call through the proxy; `may_have_arrived` says whether it may have acted on it."""

    code = "upstream_failed"
    status = 502
    message = "The provider could not be reached, or broke off its answer. Look at `may_have_arrived` before you try again."


class UpstreamTimeoutError(TokenError):
    """The provider did not answer a call through the proxy in time."""

    code = "upstream_timeout"
    status = 504
    message = "The provider did not answer in time. It may have acted on the call all the same."


class AnswerTooLargeError(TokenError):
    """The provider's answer is longer than the proxy passes on."""

    code = "answer_too_large"
    status = 502
    message = "The provider's answer is longer than the proxy passes on. Fetch it with a token of your own."
