"""Pages for what went wrong before a view could say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import render

from portal.session_limits import page_of_the_form

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Tell that a form was too old, or came from elsewhere; from here one goes back to its page, made anew."""
    return render(request, "errors/csrf.html", {"page": page_of_the_form(request)}, status=403)
