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

_SECRETS = re.compile(
    r"""(?ix)
    (?P<name>\b(?:access_token|refresh_token|client_secret|code_verifier|code|state|password|secret|token|authorization)
        ["']?\s*[=:]\s*["']?(?:bearer\s+|basic\s+)?)
    [^\s"'&,;}\])]+
    | (?P<key>dpk_[0-9A-Za-z]{12}_)[0-9A-Za-z]+
    | (?P<webhook>whsec_)[0-9A-Za-z+/=_-]+
    | (?P<jwt>eyJ)[\w-]+\.[\w.-]+
    # Links whose last part is the secret: Django logs the path of every 4xx.
    | (?P<path>/(?:invitations|connect|accounts/confirm-email|accounts/password/reset/key)/)[^\s"'/?]{16,}
    """
)


def redact(text: str) -> str:
    """Replace values that look like secrets; the last net, not the first."""
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
        ids = {"request_id": request_id_of(record), "task_id": current_task_id.get()}
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            **{name: value for name, value in ids.items() if value},
            **log_data,
        }
        log_data.clear()
        log_data.update(
            {name: _without_secrets(name, value) for name, value in fields.items() if _is_plain(value)}
        )


def _is_plain(value: object) -> bool:
    """Tell whether a field says what it is: a request or a task, such as Django and Celery add, could hold anything."""
    return value is None or isinstance(value, str | int | float | bool)


def _without_secrets(name: str, value: Any) -> Any:
    """Return a field's value, hidden if the field is called like a secret."""
    return redact(f"{name}={value}")[len(name) + 1 :] if isinstance(value, str) else value


def make_formatter() -> logging.Formatter:
    """Return the formatter that LOG_FORMAT asks for: "text", or by default JSON. For the web server's own process."""
    return LineFormatter() if os.environ.get("LOG_FORMAT") == "text" else JsonLineFormatter()
