"""Log lines for people and for machines: with the id of their request or task, and without secrets (G6).

Nothing here needs Django: the web server's own process logs through it too (portal/granian_logs.json).
"""

from __future__ import annotations

import contextvars
import logging
import os
import re
from datetime import UTC, datetime
from typing import Any

from pythonjsonlogger.json import JsonFormatter

# Set by portal.middleware and portal.celery; what a thread or a callback logs later for the same work carries them too.
current_request_id: contextvars.ContextVar[str] = contextvars.ContextVar("current_request_id", default="")
current_task_id: contextvars.ContextVar[str] = contextvars.ContextVar("current_task_id", default="")

_NAMES = (
    "access_token|refresh_token|client_secret|code_verifier|code|state|password|secret|token|authorization"
)
_SECRETS = re.compile(
    rf"""(?ix)
    (?P<name>\b(?:{_NAMES})
        ["']?\s*[=:]\s*["']?(?:bearer\s+|basic\s+)?)
    [^\s"'&,;}}\])]+
    | (?P<key>dpk_[0-9A-Za-z]{{12}}_)[0-9A-Za-z]+
    | (?P<webhook>whsec_)[0-9A-Za-z+/=_-]+
    | (?P<jwt>eyJ)[\w-]+\.[\w.-]+
    # Links whose last part is the secret: Django logs the path of every 4xx.
    | (?P<path>/(?:invitations|connect|connect/manage|connect/reconnect|accounts/confirm-email|accounts/password/reset/key)/)[^\s"'/?]{{16,}}
    """
)
# Without one of these nothing of the above can be found; most texts have none, and this is told at once.
_SUSPECT = re.compile(r"[=:/]|(?i:dpk_|whsec_|eyj)")
_PLAIN = (int, float, bool, type(None))
_SECRET_FIELDS = frozenset(_NAMES.split("|"))


def redact(text: str) -> str:
    """Replace values that look like secrets; the last net, not the first."""
    if not _SUSPECT.search(text):
        return text
    return _SECRETS.sub(
        lambda match: (match["name"] or match["key"] or match["webhook"] or match["path"] or "") + "[hidden]",
        text,
    )


def request_id_of(record: logging.LogRecord) -> str:
    """Return the id of the request that a record is about, or ""."""
    # Django logs a 4xx after the request has left our middleware, but names the request.
    return str(getattr(getattr(record, "request", None), "request_id", current_request_id.get()))


class LineFormatter(logging.Formatter):
    """One line a record: time, level, logger, request or task id, message. Line breaks are escaped."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s [%(its_id)s] %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Format, redact, and keep it on one line (tracebacks excepted, which are indented)."""
        record.its_id = request_id_of(record) or current_task_id.get() or "-"
        text = redact(super().format(record))
        head, *rest = text.splitlines() or [""]
        if not record.exc_info:
            return "\\n".join([head, *rest])
        return "\n    ".join([head, *rest])


class JsonLineFormatter(JsonFormatter):
    """One JSON object a line: time, level, logger, message, request_id or task_id, and what the caller added."""

    def __init__(self) -> None:
        super().__init__(["message"])

    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        """Put the fields in an order that reads well, redact their texts, and leave objects out."""
        super().add_fields(log_data, record, message_dict)
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
        }
        if request_id := request_id_of(record):
            fields["request_id"] = request_id
        if task_id := current_task_id.get():
            fields["task_id"] = task_id
        for name, value in log_data.items():
            if isinstance(value, str):
                fields[name] = "[hidden]" if name.lower() in _SECRET_FIELDS else redact(value)
            # A request or a task, such as Django and Celery add, could hold anything.
            elif isinstance(value, _PLAIN):
                fields[name] = value
        log_data.clear()
        log_data.update(fields)


def make_formatter() -> logging.Formatter:
    """Return the formatter that LOG_FORMAT asks for: "text", or by default JSON. For the web server's own process."""
    return LineFormatter() if os.environ.get("LOG_FORMAT") == "text" else JsonLineFormatter()
