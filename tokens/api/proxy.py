"""`proxy/{id}/{site}/{product}/{path}`: any call to a provider, made by the portal with the grant's token."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from django.conf import settings
from django.http import StreamingHttpResponse

from providers.http_stream import CHUNK, Stream
from tokens.api.lookup import grant_of
from tokens.api.problems import TooLargeError
from tokens.errors import AnswerTooLargeError, BadPathError
from tokens.proxy import MOST_BYTES, call_through, place_in_line
from tokens.proxy_headers import harmless_type, request_headers, response_headers
from tokens.proxy_path import target_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.http import HttpRequest

    from tokens.api.door import Call

# A body up to here is read before the call, so that it can be sent a second time.
KEPT_BODY = CHUNK


def carry(call: Call, *, pk: str, site: str, product: str, path: str) -> StreamingHttpResponse:
    """Call the provider through the portal.

    The portal adds the token; the path goes below the product's base URL at the site. `site` is a cloud id, a name, or `-`
    for the only one; `product` is `jira` or `confluence`, or what the provider has. Bodies stream both ways.
    """
    request, grant = call.request, grant_of(call, pk)
    config = grant.provider_config
    target = target_of(
        grant, site=site, product=product, path=path, query=request.META.get("QUERY_STRING", "")
    )
    rules = config.spec.proxy
    headers = request_headers(request.headers, rules)
    method = request.method or "GET"
    with ExitStack() as stack:
        stack.enter_context(place_in_line(call.application.pk))
        body = _body(request, headers)
        answer = stack.enter_context(
            call_through(grant, target, method=method, headers=headers, body=body, actor=call.actor)
        )
        told = response_headers(
            answer.headers,
            rules,
            url=target.url,
            base_url=target.base_url,
            proxy_url=f"{settings.PUBLIC_URL}/api/v1/proxy/{grant.pk}/{target.site.cloud_id}/{product}",
        )
        length = next((value for name, value in told.items() if name.lower() == "content-length"), "0")
        if method != "HEAD" and int(length) > MOST_BYTES:
            raise AnswerTooLargeError
        kind = next((told.pop(name) for name in list(told) if name.lower() == "content-type"), "")
        response = StreamingHttpResponse(
            _Passed(answer, stack.pop_all()),
            status=answer.status,
            headers={**told, "X-Portal-Provider": config.provider_id},
        )
        response["Content-Type"] = harmless_type(kind) or "application/octet-stream"
        return response


class _Passed:
    """The body of an answer on its way to the caller. Closing it, whoever hangs up, ends the call and frees its place."""

    def __init__(self, answer: Stream, until: ExitStack) -> None:
        self._parts, self._until, self._left = iter(answer), until, MOST_BYTES

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
