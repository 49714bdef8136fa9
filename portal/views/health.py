"""For load balancers and orchestrators: is this process alive, and can it do its work?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth.decorators import login_not_required
from django.http import JsonResponse
from django.views.decorators.http import require_safe

from portal.readiness import what_is_ready

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@login_not_required  # Load balancers ask, and learn nothing.
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer 200 while this process can answer at all. It asks nobody else: restarting it would mend nothing of theirs."""
    return JsonResponse({"status": "ok"})


@login_not_required  # The same; the answer holds a word for each check, and no reasons.
@require_safe
def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200 if this process can do its work, else 503 with the checks that failed."""
    checks = what_is_ready()
    is_ready = all(checks.values())
    return JsonResponse(
        {
            "status": "ok" if is_ready else "unavailable",
            "checks": {name: "ok" if is_well else "failed" for name, is_well in checks.items()},
        },
        status=200 if is_ready else 503,
    )
