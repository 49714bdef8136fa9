"""Error reports that hold no secrets (G7)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.views.debug import SafeExceptionReporterFilter

if TYPE_CHECKING:
    from collections.abc import ItemsView

HIDDEN_NAMES = re.compile(
    "API|AUTH|TOKEN|KEY|SECRET|PASS|SIGNATURE|HTTP_COOKIE|DATABASE|REDIS|BROKER|CACHES|EMAIL|DSN|CODE|STATE|VERIFIER|"
    "REFRESH|ACCESS|COOKIE|SESSION|CREDENTIAL|PLAINTEXT|BODY|ANSWER",
    re.IGNORECASE,
)


class ReportFilter(SafeExceptionReporterFilter):
    """Hide more names than Django does, and every local variable and posted value in frames."""

    hidden_settings = HIDDEN_NAMES

    def get_traceback_frame_variables(self, request: Any, tb_frame: Any) -> ItemsView[str, Any]:
        """Show no local variables: too many of ours hold tokens."""
        return dict[str, Any]().items()

    def get_post_parameters(self, request: Any) -> dict[str, Any]:
        """Show only the names of posted fields."""
        return {} if request is None else dict.fromkeys(request.POST, self.cleansed_substitute)
