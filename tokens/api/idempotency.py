"""Idempotency-Key: a POST that is sent again is carried out once, and answered as it was then.

After draft-ietf-httpapi-idempotency-key-header: the same key with the same request gets the kept answer, with another
request 422, while the first is under way 409. Answers that did something are kept, for a day; an error leaves no trace,
so the same call may be tried again.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models.functions import Now
from django.http import HttpResponse

from portal.encryption import seal, unseal
from tokens.api.fields import body_of, wrong
from tokens.api.problems import IdempotencyInProgressError, IdempotencyMismatchError
from tokens.clock import database_now
from tokens.models import KeptAnswer

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

    from portal.models import ApiKey
    from tokens.api.operation import Operation

HEADER = "Idempotency-Key"
LONGEST = 255
# Longer than any call takes. A call whose process was killed may be made again after that.
HELD_FOR = timedelta(minutes=2)
KEPT_HEADERS = ("Content-Type", "Location")


def answer_once(
    request: HttpRequest, operation: Operation, key: ApiKey, carry_out: Callable[[], HttpResponseBase]
) -> HttpResponseBase:
    """Carry a call out, or return what it was answered before.

    Raises BadFieldError, IdempotencyMismatchError, IdempotencyInProgressError, and whatever the call itself raises.
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
    if kept.pk != mine.pk:
        kept.api_key = key
        if kept.request_digest != mine.request_digest:
            raise IdempotencyMismatchError
        if kept.answer is not None:
            return _replayed(kept)
        if not _taken_over(kept):
            raise IdempotencyInProgressError
    try:
        response = carry_out()
    except BaseException:
        KeptAnswer.objects.filter(pk=kept.pk, answer=None).delete()
        raise
    _keep(kept, response)
    return response


def _digest(request: HttpRequest, *, most: int) -> str:
    asked = b"\0".join([str(request.method).encode(), request.path.encode(), body_of(request, most=most)])
    return hashlib.sha256(asked).hexdigest()


def _taken_over(kept: KeptAnswer) -> bool:
    """Tell whether the caller before us was killed, and the call is ours now."""
    abandoned = KeptAnswer.objects.filter(pk=kept.pk, answer=None, held_until__lt=Now())
    return bool(abandoned.update(held_until=Now() + HELD_FOR))


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
