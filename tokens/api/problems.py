"""Errors of the API: what only it can say, and the one place that turns any error into a problem document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.http import JsonResponse
from django.urls import reverse

from tokens.errors import TokenError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds after which it is worth asking again.
RETRY_AFTER_S = {
    "refresh_in_progress": 2,
    "idempotency_in_progress": 2,
    "audit_unavailable": 5,
    "database_unavailable": 5,
    "provider_unavailable": 30,
    "client_refused": 300,
}


class NoKeyError(TokenError):
    """The Authorization header is missing or is no Bearer key."""

    code = "no_key"
    status = 401
    message = "Send your API key in the header, as `Authorization: Bearer dpk_…`."


class BadKeyError(TokenError):
    """The key lets nobody in; nothing tells why (C9)."""

    code = "bad_key"
    status = 401
    message = (
        "This API key is mistyped, unknown, expired or revoked. Make a new one on the portal under API Keys."
    )


class IpNotAllowedError(TokenError):
    """The key is right, but may not be used from there."""

    code = "ip_not_allowed"
    status = 403
    message = (
        "This API key may be used from certain IP ranges only, and this call came from elsewhere. Call from there, or "
        "change the key's ranges under API Keys."
    )


class RateLimitedError(TokenError):
    """Too many calls, or too many wrong keys (D8, D10); `retry_after` says when to come back."""

    code = "rate_limited"
    status = 429
    message = "Too many calls in this minute. Wait as long as `retry_after` says, in seconds, and go on then."


class MisplacedKeyError(TokenError):
    """The key is in the address or the body, where logs keep it (D4)."""

    code = "misplaced_key"
    message = (
        "An API key is in the address or the body of this request, where logs may keep it. Send it in the "
        "Authorization header only, and replace this one: revoke it under API Keys."
    )


class MissingPermissionError(TokenError):
    """The key may not do this (D2)."""

    code = "missing_permission"
    status = 403
    message = "This API key may not do this. Make one with the missing permission under API Keys."


class NotFoundError(TokenError):
    """Not there, or not this key's: both look the same (D1)."""

    code = "not_found"
    status = 404
    message = (
        "There is no such thing in this application, or this key may not see it. Check the id and the key."
    )


class MethodNotAllowedError(TokenError):
    """The address knows other methods."""

    code = "method_not_allowed"
    status = 405
    message = "This address does not take that method. The Allow header names those that it does."


class NotJsonError(TokenError):
    """The body is not a JSON object."""

    code = "not_json"
    status = 415
    message = "Send a JSON object, with `Content-Type: application/json`."


class TooLargeError(TokenError):
    """The body is too long."""

    code = "too_large"
    status = 413
    message = "The body is too long. No call needs more than a few kilobytes."


class BadFieldError(TokenError):
    """A field that is missing, unknown, or holds something else than it should; `field` names it."""

    code = "bad_field"


class ExportRunningError(TokenError):
    """Refresh tokens that would be spent here after they left."""

    code = "export_running"
    status = 409
    message = (
        "Refresh tokens of these providers change with every refresh, and live in one place. Switch the providers off "
        "under OAuth Providers, so that this portal refreshes them no more, and export again."
    )


class FaultError(TokenError):
    """Something that we did not foresee."""

    code = "fault"
    status = 500
    message = (
        "Something broke on our side. It is in the portal's log, under the X-Request-Id of this answer; whoever runs the "
        "portal can look it up."
    )


class DatabaseUnavailableError(TokenError):
    """The database is gone, or too busy."""

    code = "database_unavailable"
    status = 503
    message = "The portal's database does not answer just now. Ask again in a few seconds."


class IdempotencyMismatchError(TokenError):
    """An Idempotency-Key that was used for another call."""

    code = "idempotency_mismatch"
    status = 422
    message = "This Idempotency-Key was used for a different call. Take a new one for each thing that is to be done."


class IdempotencyInProgressError(TokenError):
    """The first call with this Idempotency-Key is not over."""

    code = "idempotency_in_progress"
    status = 409
    message = "The first call with this Idempotency-Key is still under way. Send it again in a moment."


class IdempotencyUnclearError(TokenError):
    """Nobody knows whether the first call with this Idempotency-Key was carried out, so it is not made again."""

    code = "idempotency_unclear"
    status = 409
    message = (
        "The first call with this Idempotency-Key broke off, or its answer could not be kept, so it may have been carried "
        "out. Look whether it was; if not, send it with a new Idempotency-Key."
    )


class AmbiguousError(TokenError):
    """Several connections fit; `candidates` lists them. None is chosen silently."""

    code = "ambiguous"
    status = 409
    message = (
        "This end user has several connections with the provider. Choose one of the candidates, by its id."
    )


def problem(error: TokenError) -> JsonResponse:
    """Return the problem document of an error (RFC 9457)."""
    body = {
        "type": f"{settings.PUBLIC_URL}{reverse('api-problem', args=[error.code])}",
        "title": title_of(error.code),
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        **error.members,
    }
    headers = {}
    if seconds := error.members.get("retry_after") or RETRY_AFTER_S.get(error.code):
        body["retry_after"] = seconds
        headers["Retry-After"] = str(seconds)
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="api"'
    if "allow" in error.members:
        headers["Allow"] = ", ".join(error.members["allow"])
    return JsonResponse(body, status=error.status, headers=headers, content_type="application/problem+json")


def title_of(code: str) -> str:
    """Return a code in words: "Needs reconnect"."""
    return code.replace("_", " ").capitalize()


def all_errors() -> dict[str, type[TokenError]]:
    """Return every error that has a code of its own, by it."""
    return {error.code: error for error in _below(TokenError) if "code" in vars(error)}


def _below(parent: type[TokenError]) -> Iterator[type[TokenError]]:
    for child in parent.__subclasses__():
        yield child
        yield from _below(child)
