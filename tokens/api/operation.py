"""One method of one address: who may, what may be sent, what comes back. The door and the OpenAPI document read it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tokens.api.fields import MAX_BODY, METHODS_WITH_BODY
from tokens.api.problems import (
    BadFieldError,
    BadKeyError,
    DatabaseUnavailableError,
    FaultError,
    IdempotencyInProgressError,
    IdempotencyMismatchError,
    IdempotencyUnclearError,
    IpNotAllowedError,
    MisplacedKeyError,
    MissingPermissionError,
    NoKeyError,
    NotJsonError,
    RateLimitedError,
    TooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from django.http.response import HttpResponseBase

    from portal.models.api_keys import KeyPermission
    from tokens.api.fields import Field
    from tokens.errors import TokenError

    Errors = tuple[type[TokenError], ...]

# What the door itself may answer, whatever is behind it.
AT_THE_DOOR: Errors = (
    NoKeyError,
    BadKeyError,
    IpNotAllowedError,
    MisplacedKeyError,
    MissingPermissionError,
    BadFieldError,
    DatabaseUnavailableError,
    FaultError,
    RateLimitedError,
)
WITH_A_BODY: Errors = (NotJsonError, TooLargeError)
WITH_IDEMPOTENCY: Errors = (IdempotencyMismatchError, IdempotencyInProgressError)


@dataclass(frozen=True)
class Operation:
    """What a method of an address does.

    The docstring of `carry_out` is its description. `answers` is the shape of a good answer, a TypedDict of
    tokens/api/shapes.py; `errors` are those beside the door's. An operation that passes on what it gets, as the proxy
    does, takes None: then nothing of the query or the body is read here, and `answers` may be None too.
    """

    carry_out: Callable[..., HttpResponseBase]
    permission: KeyPermission
    takes: Mapping[str, Field] | None = field(default_factory=dict)
    answers: Any = None
    errors: Errors = ()
    status: int = 200
    # In bytes.
    largest_body: int = MAX_BODY
    # Carries the usual case out with less work, the door's included; or does nothing and returns None.
    at_once: Callable[..., HttpResponseBase | None] | None = None
    # With an Idempotency-Key, what it does is committed together with its answer, or not at all. It must ask nobody else.
    is_one_transaction: bool = True

    def all_errors(self, method: str) -> Errors:
        """Return every error that it may answer, the door's too."""
        with_a_body = WITH_A_BODY if method in METHODS_WITH_BODY and self.takes is not None else ()
        with_a_key = WITH_IDEMPOTENCY if self.may_be_sent_again(method) else ()
        if with_a_key and not self.is_one_transaction:
            with_a_key = (*with_a_key, IdempotencyUnclearError)
        return (*AT_THE_DOOR, *with_a_body, *with_a_key, *self.errors)

    def may_be_sent_again(self, method: str) -> bool:
        """Tell whether it obeys an Idempotency-Key; what is passed on to a provider keeps its own."""
        return method == "POST" and self.takes is not None
