"""The door of the API: which methods there are, whose key it is, what the key may do, and what may be sent."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib.auth.decorators import login_not_required
from django.db import InterfaceError, OperationalError
from django.views.decorators.csrf import csrf_exempt
from psycopg.errors import IdleInTransactionSessionTimeout, TransactionTimeout

from portal.api_keys import KEY_PATTERN, WrongNetworkError, recognise
from portal.audit import api_key_of, client_address
from portal.rate_limits import RATE_LIMITS, LimitReachedError
from providers.catalog_loader import UnknownProviderError
from providers.models import ProviderConfig
from tokens.api import idempotency
from tokens.api.fields import Fields, body_of
from tokens.api.problems import (
    BadKeyError,
    DatabaseUnavailableError,
    FaultError,
    IpNotAllowedError,
    MethodNotAllowedError,
    MisplacedKeyError,
    MissingPermissionError,
    NoKeyError,
    NotFoundError,
    RateLimitedError,
    problem,
)
from tokens.api.shapes import reconnect_shape
from tokens.errors import NeedsReconnectError, NotInCatalogError, TokenError
from tokens.models import ConnectSession, Grant

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from portal.audit import Actor
    from portal.models import ApiKey, Application
    from tokens.api.operation import Operation


# Of an operation that reads its request itself.
NOTHING = Fields({}, {})


@dataclass(frozen=True)
class Call:
    """One call that was let in. Everything is looked up through it, so nothing else's is ever found (D1, D2)."""

    key: ApiKey
    actor: Actor
    fields: Fields
    # For what passes it on, such as the proxy; everything else reads `fields`.
    request: HttpRequest

    @property
    def application(self) -> Application:
        """Return the application whose key it is."""
        return self.key.application

    def configs(self) -> QuerySet[ProviderConfig]:
        """Return the provider configurations that the key may be used for."""
        found = ProviderConfig.objects.visible_to(self.application).select_related("application")
        return found.filter(provider_id__in=self.key.provider_ids) if self.key.provider_ids else found

    def grants(self) -> QuerySet[Grant]:
        """Return the grants that the key may be used for, with what they are shown with."""
        found = Grant.objects.filter(application=self.application, provider_config__in=self.configs())
        return found.select_related("provider_config__application").prefetch_related("sites")

    def sessions(self) -> QuerySet[ConnectSession]:
        """Return the connect sessions that the key may be used for."""
        found = ConnectSession.objects.filter(
            application=self.application, provider_config__in=self.configs()
        )
        return found.select_related("provider_config__application", "grant")


def resource(**operations: Operation) -> Callable[..., HttpResponseBase]:
    """Return the view of an address that has these methods; it carries them as `operations`, for the document."""

    @csrf_exempt  # A key in a header lets callers in; a browser sends nothing by itself that would be believed.
    @login_not_required  # Back ends have no login; the key is what lets them in.
    def view(request: HttpRequest, **path: Any) -> HttpResponseBase:
        response: HttpResponseBase
        limits: dict[str, str] = {}
        try:
            response = _answer(request, operations, path, limits)
        except UnknownProviderError:
            response = problem(NotInCatalogError())
        except Grant.DoesNotExist:  # Deleted, with its application or provider, while we were at it.
            response = problem(NotFoundError())
        except LimitReachedError as error:
            limits |= error.left.headers()
            response = problem(RateLimitedError(retry_after=error.retry_after))
        except TokenError as error:
            response = problem(error)
        except Exception as error:
            if _is_without_database(error):
                logger.error("The database did not answer a call to the API (%s).", type(error).__name__)  # noqa: TRY400
                response = problem(DatabaseUnavailableError())
            else:
                logger.exception("A call to the API failed (%s).", type(error).__name__)
                response = problem(FaultError())
        if not response.has_header("X-Portal-Provider"):  # Else limits are the provider's to tell.
            for name, value in limits.items():
                response[name] = value
        response["Cache-Control"] = "no-store"
        return response

    view.operations = operations  # type: ignore[attr-defined]
    return view


def _is_without_database(error: Exception) -> bool:
    """Tell whether the database did not answer. It also ends the session of a process that stood still in a transaction."""
    stood_still = (IdleInTransactionSessionTimeout, TransactionTimeout)
    return isinstance(error, (OperationalError, InterfaceError)) or isinstance(error.__cause__, stood_still)


def _answer(
    request: HttpRequest, operations: dict[str, Operation], path: dict[str, Any], limits: dict[str, str]
) -> HttpResponseBase:
    try:
        return _carry_out(request, operations, path, limits)
    except NeedsReconnectError as error:  # Whatever was asked for, the answer brings what repairs it.
        key = KEY_PATTERN.search(request.headers["Authorization"])
        assert key is not None
        error.members |= reconnect_shape(error.grant, given_to=f"dpk_{key[1]}")
        raise


def _carry_out(
    request: HttpRequest, operations: dict[str, Operation], path: dict[str, Any], limits: dict[str, str]
) -> HttpResponseBase:
    operation = operations.get(request.method or "")
    if request.method == "HEAD" and "GET" in operations and operations["GET"].takes is None:
        operation = operations["GET"]  # Of what is passed on, the provider's head.
    if operation is None:
        raise MethodNotAllowedError(allow=sorted(operations))
    _refuse_misplaced_key(request, operation)
    response = operation.at_once(request, limits, **path) if operation.at_once else None
    if response is not None:
        return response
    key = _key_of(request)
    limits |= RATE_LIMITS.take(key.public_id, key.application_id).headers()
    if operation.permission not in key.permissions:
        raise MissingPermissionError(missing_permission=operation.permission.value)
    fields = (
        NOTHING
        if operation.takes is None
        else Fields.of(request, operation.takes, most=operation.largest_body)
    )
    call = Call(key, api_key_of(request, key), fields, request)
    if operation.may_be_sent_again(request.method or "") and idempotency.HEADER in request.headers:
        return idempotency.answer_once(request, operation, key, lambda: operation.carry_out(call, **path))
    return operation.carry_out(call, **path)


def _refuse_misplaced_key(request: HttpRequest, operation: Operation) -> None:
    """Raise MisplacedKeyError for a key in the address or in a body that is ours to read, right or wrong (D4)."""
    in_address = any(
        KEY_PATTERN.search(text) for name, values in request.GET.lists() for text in [name, *map(str, values)]
    )
    if in_address:
        raise MisplacedKeyError
    if operation.takes is not None and KEY_PATTERN.search(
        body_of(request, most=operation.largest_body).decode(errors="replace")
    ):
        raise MisplacedKeyError


def _key_of(request: HttpRequest) -> ApiKey:
    scheme, _, presented = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not presented.strip():
        raise NoKeyError
    ip_address = client_address(request)
    RATE_LIMITS.require_few_wrong_keys(ip_address)
    try:
        key = recognise(presented.strip(), ip_address=ip_address)
    except WrongNetworkError:
        raise IpNotAllowedError(ip_address=ip_address) from None
    if key is None:
        # Somebody who tries keys is seen there; what was tried is not (D10).
        logger.warning("A call with a bad API key was refused, from %s.", ip_address)
        RATE_LIMITS.note_wrong_key(ip_address)
        raise BadKeyError
    return key
