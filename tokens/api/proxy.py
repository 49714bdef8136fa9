"""`proxy/{id}/{site}/{product}/{path}`: any call to a provider, made by the portal with the grant's token."""

from __future__ import annotations

import datetime as dt
import logging
import re
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS
from django.http import StreamingHttpResponse

from portal.audit import Actor, client_address, request_id
from portal.models.audit import ActorKind
from portal.rate_limits import RATE_LIMITS
from providers.catalog_loader import catalog
from providers.http_stream import CHUNK, Stream, StreamFailedError
from tokens.api.at_once import key_in, take
from tokens.api.lookup import grant_of
from tokens.api.problems import TooLargeError
from tokens.errors import AnswerTooLargeError, BadPathError, TooManyAtOnceError
from tokens.hand_out import HandedOut
from tokens.models import Grant
from tokens.proxy import MIN_TTL, MOST_BYTES, call_through, in_words, place_in_line
from tokens.proxy_headers import harmless_type, request_headers, response_headers
from tokens.proxy_path import is_honest, slug, target_at, target_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest

    from tokens.api.at_once import Taken
    from tokens.api.door import Call
    from tokens.proxy_path import Target

logger = logging.getLogger(__name__)

# A body up to here is read before the call, so that it can be sent a second time.
KEPT_BODY = CHUNK
# Of an answer whose length the provider does not say, so much is waited for before the caller hears of it.
HELD_ANSWER = 1024 * 1024
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SITE = re.compile(r"[ -~]{1,200}")


def carry(call: Call, *, pk: str, site: str, product: str, path: str) -> StreamingHttpResponse:
    """Call the provider through the portal.

    The portal adds the token; the path goes below the product's base URL at the site. `site` is a cloud id, a name, or `-`
    for the only one; `product` is `jira` or `confluence`, or what the provider has. Bodies stream both ways.
    """
    request, grant = call.request, grant_of(call, pk)
    target = target_of(
        grant, site=site, product=product, path=path, query=request.META.get("QUERY_STRING", "")
    )
    provider_id = grant.provider_config.provider_id
    headers = request_headers(request.headers, catalog()[provider_id].proxy)
    with ExitStack() as stack:
        stack.enter_context(place_in_line(call.application.pk))
        body = _body(request, headers)
        return _carry(stack, request, grant, target, provider_id, headers, body, actor=call.actor)


def carry_at_once(
    request: HttpRequest, limits: dict[str, str], *, pk: str, site: str, product: str, path: str
) -> StreamingHttpResponse | None:
    """Do the same in the usual case: key, grant, site, audit row and token are one statement, as on the hot path.

    Where anything else is, return None, with nothing done: `carry` and the door have the words for it.
    """
    key, query = key_in(request.META), request.META.get("QUERY_STRING", "")
    application_id = RATE_LIMITS.application_of(key[0]) if key else None
    length = request.META.get("CONTENT_LENGTH") or "0"
    is_usual = (
        (_ID.fullmatch(pk) and _SITE.fullmatch(site) and is_honest(path, query))
        and not request.headers.get("Transfer-Encoding")
        and (re.fullmatch(r"[0-9]{1,9}", length) and int(length) <= min(KEPT_BODY, MOST_BYTES))
        and all(value.isprintable() and value.isascii() for value in request.headers.values())
    )
    if key is None or application_id is None or not is_usual:
        return None
    # By provider, since whose grant it is comes out only with the token.
    names = {
        spec.id: name for spec in catalog().values() for name in spec.site_base_urls if slug(name) == product
    }
    with ExitStack() as stack:
        try:
            stack.enter_context(place_in_line(uuid.UUID(application_id)))
        except TooManyAtOnceError:
            return None
        body = request.body or None  # Django keeps it, in case the ordinary way wants it.
        sought = {
            "grant_id": pk,
            "site": site,
            "products": names,
            "product": product,
            "method": request.method or "GET",
            "path": f"/{path}"[:500],
        }
        taken = _take(request, key, sought)
        if taken is None:
            return None
        limits |= taken.left.headers()
        cloud_id, gen, key_name, expires_at, use_until = taken.columns
        # What else is asked of it, where a token is refused, is read then.
        grant = Grant.from_db(DEFAULT_DB_ALIAS, ["id", "gen"], [uuid.UUID(pk), int(gen)])
        spec = catalog()[taken.provider_id]
        actor = Actor(ActorKind.API_KEY, taken.key_id, key_name, client_address(request), request_id(request))
        return _carry(
            stack,
            request,
            grant,
            target_at(spec, names[spec.id], cloud_id=cloud_id, path=path, query=query),
            spec.id,
            request_headers(request.headers, spec.proxy),
            body,
            actor=actor,
            first=HandedOut(grant, taken.access_token, _moment(expires_at), _moment(use_until)),
        )


def _take(request: HttpRequest, key: tuple[str, str], sought: dict[str, Any]) -> Taken | None:
    try:
        return take(
            b"call_through",
            key,
            min_ttl=int(MIN_TTL.total_seconds()),
            address=client_address(request),
            request_id=request_id(request),
            **sought,
        )
    except Exception:  # Whatever it is, the ordinary way has the words for it.
        logger.exception("A token was not to be had at once, and the call goes the ordinary way.")
        return None


def _moment(text: str) -> dt.datetime | None:
    return dt.datetime.fromisoformat(text) if text else None


def _carry(
    stack: ExitStack,
    request: HttpRequest,
    grant: Grant,
    target: Target,
    provider_id: str,
    headers: dict[str, str],
    body: bytes | Iterator[bytes] | None,
    *,
    actor: Actor,
    first: HandedOut | None = None,
) -> StreamingHttpResponse:
    rules, method = catalog()[provider_id].proxy, request.method or "GET"
    answer = stack.enter_context(
        call_through(
            grant, target, method=method, headers=headers, body=body, actor=actor, rules=rules, first=first
        )
    )
    told = response_headers(
        answer.headers,
        rules,
        url=target.url,
        base_url=target.base_url,
        proxy_url=f"{settings.PUBLIC_URL}/api/v1/proxy/{grant.pk}/{target.cloud_id}/{target.product}",
    )
    length = next((value for name, value in told.items() if name.lower() == "content-length"), "")
    if method != "HEAD" and int(length or 0) > MOST_BYTES:
        raise AnswerTooLargeError
    kind = next((told.pop(name) for name in list(told) if name.lower() == "content-type"), "")
    has_body = method != "HEAD" and answer.status not in (204, 304)
    if has_body and not length and not kind.startswith("text/event-stream"):
        told |= _length_of(answer)
    response = StreamingHttpResponse(
        _Passed(answer, stack.pop_all()),
        status=answer.status,
        headers={**told, "X-Portal-Provider": provider_id},
    )
    response["Content-Type"] = harmless_type(kind) or "application/octet-stream"
    return response


def _length_of(answer: Stream) -> dict[str, str]:
    """Return the length of an answer whose provider does not say it, unless it is long.

    Half of it would look whole to the caller: the web server ends what has no length in the same way, whether it broke off
    or not. So what is short is waited for, and a failure has words.
    """
    try:
        length = answer.read_ahead(HELD_ANSWER)
    except StreamFailedError as error:
        raise in_words(error) from None
    return {} if length is None else {"Content-Length": str(length)}


class _Passed:
    """The body of an answer on its way to the caller. Closing it, whoever hangs up, ends the call and frees its place."""

    def __init__(self, answer: Stream, until: ExitStack) -> None:
        self._answer, self._parts, self._until, self._left = answer, iter(answer), until, MOST_BYTES

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            part = next(self._parts)
        except BaseException:
            self.close()
            raise
        self._left -= len(part)
        if self._left < 0:
            self.close()
            raise AnswerTooLargeError
        if self._answer.is_over:  # Before the caller has it, who may call again at once.
            self.close()
        return part

    def close(self) -> None:
        self._until.close()


def _body(request: HttpRequest, headers: dict[str, str]) -> bytes | Iterator[bytes] | None:
    """Return what is to be sent: short bodies whole, long ones part by part. Raises TooLargeError."""
    if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        # Django would take it for empty; the server has put it together and ends it.
        return _parts(request.META["wsgi.input"], length=None)
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > MOST_BYTES:
        raise TooLargeError if length.isdigit() else BadPathError
    if int(length) <= KEPT_BODY:
        return request.read(int(length)) or None
    headers["Content-Length"] = length
    return _parts(request, length=int(length))


def _parts(source: object, *, length: int | None) -> Iterator[bytes]:
    """Yield a body's parts. Raises TooLargeError, and BadPathError where the caller broke off: half is not passed on as whole."""
    seen = 0
    while part := source.read(CHUNK):  # type: ignore[attr-defined]
        seen += len(part)
        if seen > MOST_BYTES:
            raise TooLargeError
        yield part
    if length is not None and seen < length:
        raise BadPathError("The body broke off.")
