"""Idempotency-Key: a POST that is sent again is carried out once, and answered as it was then.

After draft-ietf-httpapi-idempotency-key-header: the same key with the same request gets the kept answer, with another
request 422, while the first is under way 409. Answers that did something are kept, for a day; an error leaves no trace,
so the same call may be tried again.

Whatever breaks, nothing is done twice. What a call does and its kept answer are one transaction, so without the answer
nothing was done, and the call is made anew. Where that can't be, since a provider is asked, a call whose answer is
missing is not made again, and says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import Error, transaction
from django.db.models.functions import Now
from django.http import HttpResponse

from portal.encryption import seal, unseal
from tokens.api.fields import body_of, wrong
from tokens.api.problems import (
    IdempotencyInProgressError,
    IdempotencyMismatchError,
    IdempotencyUnclearError,
)
from tokens.clock import database_now
from tokens.errors import TokenError
from tokens.models import KeptAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from portal.models import ApiKey
    from tokens.api.operation import Operation

logger = logging.getLogger(__name__)

HEADER = "Idempotency-Key"
LONGEST = 255
# Longer than any call takes. A call whose process was killed may be made again after that.
HELD_FOR = timedelta(minutes=2)
KEPT_HEADERS = ("Content-Type", "Location")


def answer_once(
    request: HttpRequest, operation: Operation, key: ApiKey, carry_out: Callable[[], HttpResponseBase]
) -> HttpResponseBase:
    """Carry a call out, or return what it was answered before.

    Raises BadFieldError, IdempotencyMismatchError, IdempotencyInProgressError, IdempotencyUnclearError, and whatever the
    call itself raises.
    """
    name = request.headers[HEADER]
    if not 1 <= len(name) <= LONGEST or not name.isascii() or not name.isprintable():
        raise wrong(HEADER, f"must be 1 to {LONGEST} printable ASCII characters.")
    mine = KeptAnswer(
        api_key=key,
        name=name,
        request_digest=_digest(request, most=operation.largest_body),
        held_until=database_now() + HELD_FOR,
    )
    KeptAnswer.objects.bulk_create([mine], ignore_conflicts=True)
    kept = KeptAnswer.objects.filter(api_key=key, name=name).first()
    if kept is None:  # The first call failed, and took its trace along, between our two statements.
        raise IdempotencyInProgressError
    kept.api_key = key
    if kept.pk != mine.pk:
        if kept.request_digest != mine.request_digest:
            raise IdempotencyMismatchError
        if kept.answer is not None:
            return _replayed(kept)
        _take_over(kept, operation)
    return _at_one_stroke(kept, carry_out) if operation.is_one_transaction else _in_steps(kept, carry_out)


def _at_one_stroke(kept: KeptAnswer, carry_out: Callable[[], HttpResponseBase]) -> HttpResponseBase:
    """Carry a call out and keep its answer, or do neither."""
    refused: TokenError | None = None
    try:
        with transaction.atomic():
            # Whoever takes over waits here for the first one, which may only be slow.
            now = KeptAnswer.objects.select_for_update().filter(pk=kept.pk).first()
            if now is None or now.answer is not None or now.held_until != kept.held_until:
                raise IdempotencyInProgressError
            try:
                response = carry_out()
            except TokenError as error:
                # What it wrote all the same, as that a code is spent, stays.
                refused = error
            else:
                _keep(kept, response)
    except IdempotencyInProgressError:
        raise
    except BaseException:
        _forget(kept)
        raise
    if refused is not None:
        _forget(kept)
        raise refused
    return response


def _in_steps(kept: KeptAnswer, carry_out: Callable[[], HttpResponseBase]) -> HttpResponseBase:
    """Carry a call out and keep its answer after that; it is answered also where the answer can't be kept."""
    try:
        response = carry_out()
    except TokenError:
        _forget(kept)
        raise
    except BaseException:
        # How far it came nobody knows.
        with suppress(Error):
            KeptAnswer.objects.filter(pk=kept.pk, answer=None).update(held_until=Now())
        raise
    try:
        _keep(kept, response)
    except Exception as error:
        logger.exception("An answer could not be kept for its Idempotency-Key (%s).", type(error).__name__)
    return response


def _forget(kept: KeptAnswer) -> None:
    """Let the call be made again at once; if the database is gone, in two minutes."""
    with suppress(Error):
        KeptAnswer.objects.filter(pk=kept.pk, answer=None).delete()


def _digest(request: HttpRequest, *, most: int) -> str:
    asked = b"\0".join([str(request.method).encode(), request.path.encode(), body_of(request, most=most)])
    return hashlib.sha256(asked).hexdigest()


def _take_over(kept: KeptAnswer, operation: Operation) -> None:
    """Make the call ours, if the caller before us was killed. Raises IdempotencyInProgressError or IdempotencyUnclearError."""
    abandoned = KeptAnswer.objects.filter(pk=kept.pk, answer=None, held_until__lt=Now())
    if not operation.is_one_transaction:
        raise IdempotencyUnclearError if abandoned.exists() else IdempotencyInProgressError
    kept.held_until = database_now() + HELD_FOR
    if not abandoned.update(held_until=kept.held_until):
        raise IdempotencyInProgressError


def _keep(kept: KeptAnswer, response: HttpResponseBase) -> None:
    assert isinstance(response, HttpResponse)
    headers = {name: response[name] for name in KEPT_HEADERS if name in response}
    answer = {"status": response.status_code, "headers": headers, "body": response.content.decode()}
    seal(kept, "answer", json.dumps(answer))
    KeptAnswer.objects.filter(pk=kept.pk).update(answer=kept.answer)


def _replayed(kept: KeptAnswer) -> HttpResponse:
    answer = json.loads(unseal(kept, "answer") or "")
    return HttpResponse(
        answer["body"],
        status=answer["status"],
        headers={**answer["headers"], "Idempotency-Replayed": "true"},
    )
