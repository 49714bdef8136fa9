"""Where handlers find the sandbox's state and the ledger's line of the call that they answer."""

from aiohttp import web

from providers.sandbox.faults import Faults
from providers.sandbox.ledger import Call
from providers.sandbox.state import State

STATE = web.AppKey("state", State)
FAULTS = web.AppKey("faults", Faults)
CONTROL_TOKEN = web.AppKey("control_token", str)
CALL = web.RequestKey("call", Call)
