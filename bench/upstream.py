"""The provider of bench-proxy: answers a small JSON document, or as many bytes as the path says, with as little work as it can.

python -m bench.upstream PORT
"""

import sys

from aiohttp import web

SMALL = b'{"accountId":"712020:bench","displayName":"Jo Doe","self":"' + b"x" * 400 + b'"}'
PART = b"x" * 65_536


async def answer(request: web.Request) -> web.StreamResponse:
    await request.read()
    size = int(request.query.get("bytes", "0"))
    if not size:
        return web.Response(body=SMALL, content_type="application/json")
    response = web.StreamResponse(headers={"Content-Length": str(size), "Content-Type": "image/png"})
    await response.prepare(request)
    for start in range(0, size, len(PART)):
        await response.write(PART[: size - start])
    return response


if __name__ == "__main__":
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
