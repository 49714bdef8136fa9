"""Addresses of the API that need no key: what a problem's `type` leads to, and all that is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import JsonResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from tokens.api.problems import NotFoundError, all_errors, problem, title_of

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@login_not_required  # A problem document leads here; it says what the manual says.
@require_safe
def explain(request: HttpRequest, code: str) -> HttpResponse:
    """Say what a code means."""
    error = all_errors().get(code)
    if error is None:
        return problem(NotFoundError())
    return JsonResponse(
        {"code": code, "title": title_of(code), "status": error.status, "detail": error.message}
    )


@csrf_exempt  # It changes nothing.
@login_not_required  # Programs understand a problem document, not the sign-in page.
def nothing_here(request: HttpRequest, rest: str) -> HttpResponse:
    """Answer for every other address below the API's."""
    reference = settings.PUBLIC_URL + reverse("api-reference")
    return problem(NotFoundError(f"The API has no such address. {reference} lists all there are."))
