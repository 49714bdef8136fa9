"""Logs and error reports that hold no secrets (G6, G7)."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from django.views.debug import SafeExceptionReporterFilter

from portal.middleware import current_request_id

if TYPE_CHECKING:
    from collections.abc import ItemsView

HIDDEN_NAMES = re.compile(
    "API|AUTH|TOKEN|KEY|SECRET|PASS|SIGNATURE|HTTP_COOKIE|DATABASE|REDIS|BROKER|CACHES|EMAIL|DSN|CODE|STATE|VERIFIER|"
    "REFRESH|ACCESS|COOKIE|SESSION|CREDENTIAL|PLAINTEXT|BODY|ANSWER",
    re.IGNORECASE,
)

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


class LineFormatter(logging.Formatter):
    """One line a record: time, level, logger, request or task id, message. Line breaks are escaped."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Format, redact, and keep it on one line (tracebacks excepted, which are indented)."""
        # Django logs a 4xx after the request has left our middleware, but names the request.
        record.request_id = getattr(getattr(record, "request", None), "request_id", current_request_id.get())
        text = redact(super().format(record))
        head, *rest = text.splitlines() or [""]
        if not record.exc_info:
            return "\\n".join([head, *rest])
        return "\n    ".join([head, *rest])


class ReportFilter(SafeExceptionReporterFilter):
    """Hide more names than Django does, and every local variable and posted value in frames."""

    hidden_settings = HIDDEN_NAMES

    def get_traceback_frame_variables(self, request: Any, tb_frame: Any) -> ItemsView[str, Any]:
        """Show no local variables: too many of ours hold tokens."""
        return dict[str, Any]().items()

    def get_post_parameters(self, request: Any) -> dict[str, Any]:
        """Show only the names of posted fields."""
        return {} if request is None else dict.fromkeys(request.POST, self.cleansed_substitute)
