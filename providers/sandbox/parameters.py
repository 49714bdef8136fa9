"""Reading what a client posts: a JSON object or a form, and its credentials."""

import base64
import binascii
import json
from urllib.parse import parse_qsl

from aiohttp import web


class ParameterError(ValueError):
    """A body that is neither a JSON object nor a form with each name once."""


async def read_parameters(request: web.Request) -> dict[str, str]:
    """Return the parameters of a JSON or form body. Raises ParameterError for anything else."""
    raw = await request.read()
    try:
        if request.content_type == "application/json":
            parsed = json.loads(raw)
            if isinstance(parsed, dict):
                return {name: value for name, value in parsed.items() if isinstance(value, str)}
        elif request.content_type == "application/x-www-form-urlencoded":
            pairs = parse_qsl(raw.decode(), keep_blank_values=True)
            parameters = dict(pairs)
            if len(parameters) == len(pairs):
                return parameters
            raise ParameterError("A parameter is given twice.")
    except (ValueError, RecursionError):
        pass
    raise ParameterError("The body must be a JSON object or a form.")


def basic_credentials(request: web.Request) -> tuple[str, str] | None:
    """Return client id and secret from HTTP Basic, as they stand there, or None where there is none."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return client_id, secret


def credentials(request: web.Request, parameters: dict[str, str]) -> tuple[str, str]:
    """Return client id and secret from HTTP Basic or else from the body; empty where they are missing."""
    return basic_credentials(request) or (
        parameters.get("client_id", ""),
        parameters.get("client_secret", ""),
    )
